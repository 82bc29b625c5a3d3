"""Whether a run may resume with a config: what may change, what must be the same, and what to tell the user.

A run is its settings and its images. The images go by a hash of their pixels, so their path may change; a run that is
older than that record goes by the path. It may get longer, not shorter: the rate keeps the course that it had.
"""

import shlex
from typing import Any

from distmgcd.config import Config, flatten
from distmgcd.data import ImageSet
from distmgcd.errors import UserError
from distmgcd.runs import strict_json
from distmgcd.runs.store import Store

DATA_FILE = "data.json"

# What may change when a run resumes: none of these changes its weights.
_MAY_CHANGE = ("checkpoint.", "log.", "evaluate.", "watch.")

DataRecord = dict[str, dict[str, Any]]  # {"images" and "held_out": {"num": of images, "content": a hash of them}}


def data_record(images: ImageSet, held_out: ImageSet) -> DataRecord:
    sets = {"images": images, "held_out": held_out}
    return {name: {"num": len(each), "content": each.content} for name, each in sets.items()}


def read_data_record(store: Store) -> DataRecord | None:
    """The record of the run's images; None if there is none, or if it cannot be read."""
    if not store.exists(DATA_FILE):
        return None
    try:
        found = strict_json.loads(store.read(DATA_FILE))
        return {name: {"num": found[name]["num"], "content": found[name]["content"]} for name in ("images", "held_out")}
    except (ValueError, KeyError, TypeError):
        return None


def write_data_record(store: Store, record: DataRecord) -> None:
    """Raises OSError."""
    store.write(DATA_FILE, strict_json.dumps(record, indent=1).encode())


def check_images(store: Store, found: DataRecord, path: str) -> None:
    """Raises UserError if the run says which images it is of, and what was found at a path are others.

    found: of both sets, or of one of them.
    """
    recorded = read_data_record(store)
    if recorded is None:
        return
    wanted = {name: recorded[name] for name in found}
    if found != wanted:
        then, now = _in_words(wanted), _in_words(found)
        differ = f"{then} then, {now} now" if then != now else f"{now} as then, but with other pixels"
        other_decoder = f" (or delete {store.path(DATA_FILE)} if only their decoder has changed)" if then == now else ""
        raise UserError(
            f"The images of data.path {path!r} are not those that the run {store.location} was made with: {differ}; "
            f"give the path of the same images{other_decoder}, or choose another --name for a run of these."
        )


def _in_words(record: DataRecord) -> str:
    titles = {"images": "training", "held_out": "held-out"}
    return " and ".join(f"{values['num']} {titles[name]} images" for name, values in record.items())


def continued(old: Config, new: Config) -> Config:
    """The new config, with the run's schedule of the learning rate where it names none of its own.

    And with the run's length where the new one is that which it had before it was made longer, or between the two: so
    the command that began it goes on with it.
    """
    before, wanted = old.learning, new.learning
    # A run that is made longer keeps its course, so it ends after that course.
    shorter = before.rate_updates <= wanted.num_updates < before.num_updates
    length = before.num_updates if shorter else wanted.num_updates
    decay = before.decay_updates if length == before.num_updates else before.rate_updates
    if wanted.decay_updates is not None:
        decay = wanted.decay_updates
    return new.model_copy(
        update={"learning": wanted.model_copy(update={"num_updates": length, "decay_updates": decay})}
    )


def check_same(old: Config, new: Config, location: str, *, same_images: bool) -> None:
    """Raises UserError if the run at this location cannot resume with the new config (that of `continued`)."""
    length = "learning.num_updates"
    may_change = (*_MAY_CHANGE, length, *(["data.path"] if same_images else []))
    if changed := differences(settings_of(old, leave_out=may_change), settings_of(new, leave_out=may_change)):
        raise UserError(
            f"The run {location} holds a different config: {', '.join(changed)}; choose another --name, or give the "
            "settings it has to go on with it."
        )
    had, wanted = old.learning.num_updates, new.learning.num_updates
    if wanted < had:
        raise UserError(
            f"The run {location} has {length}={had}, which may be raised, but not lowered to {wanted}; give "
            f"{length}={had} to go on with it, or choose another --name."
        )


def kept_length_in_words(asked: Config, kept: Config, location: str) -> str:
    """The message for a command that asks for the length that the run had before it was made longer."""
    return (
        f"The run {location} was made longer: it has learning.num_updates={kept.learning.num_updates} and keeps that, "
        f"though this command gives {asked.learning.num_updates}."
    )


def evaluation_differences(old: Config, new: Config) -> list[str]:
    """In words: the settings of what a result measures."""
    kept = (settings_of(config, only="evaluate.", leave_out=("evaluate.every",)) for config in (old, new))
    return differences(*kept)


def longer_in_words(old: Config, new: Config, location: str, *, finished: bool) -> str:
    """The message for a run that is trained past the end it had. finished: whether it had reached that end."""
    learning = new.learning
    goes_on = f"The run {location} goes on to {learning.num_updates} updates (it had {old.learning.num_updates})."
    if learning.final_rate == 1:
        return f"{goes_on} Its learning rate stays as it is."
    full = f"{100 * learning.final_rate:g} % of its full value"
    if finished and learning.rate_updates <= old.learning.num_updates:
        rate, few = f"has already fallen to {full} and stays there", "the new updates"
    else:
        rate, few = f"falls to {full} by update {learning.rate_updates} and stays there", "updates after that"
    return (
        f"{goes_on} Its learning rate {rate}, so {few} change little; to learn much more, start another run from its "
        f"weights: --from {shlex.quote(location)} --name NAME."
    )


def differences(old: dict[str, object], new: dict[str, object]) -> list[str]:
    """In words."""
    return [
        f"{key} ({old.get(key)} there, {new.get(key)} now)" for key in sorted(old | new) if old.get(key) != new.get(key)
    ]


def settings_of(
    config: Config, *, only: str | tuple[str, ...] = "", leave_out: tuple[str, ...] = ()
) -> dict[str, object]:
    """By dotted path. The course of the rate counts by its length, however that was given."""
    settings = flatten(config.model_dump(mode="json"))
    settings["learning.decay_updates"] = config.learning.rate_updates
    return {key: value for key, value in settings.items() if key.startswith(only) and not key.startswith(leave_out)}
