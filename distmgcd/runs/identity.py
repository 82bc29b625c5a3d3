"""Whether a run may go on with a config: what may change, what must be the same, and what a user should know of it.

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

# What may change when a run goes on: none of these decides where it goes.
_MAY_CHANGE = ("checkpoint.", "log.", "evaluate.", "watch.")

DataRecord = dict[str, dict[str, Any]]  # {"images" and "held_out": {"num": of images, "content": a hash of them}}


def data_record(images: ImageSet, held_out: ImageSet) -> DataRecord:
    sets = {"images": images, "held_out": held_out}
    return {name: {"num": len(each), "content": each.content} for name, each in sets.items()}


def read_data_record(store: Store) -> DataRecord | None:
    """What images the run is of; None if it does not say so, or not legibly."""
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


def check_images(store: Store, found: DataRecord, path: str) -> bool:
    """Whether the run says which images it is of. Raises UserError if what was found at a path are others.

    found: of both sets, or of one of them.
    """
    recorded = read_data_record(store)
    if recorded is None:
        return False
    wanted = {name: recorded[name] for name in found}
    if found != wanted:
        then, now = _in_words(wanted), _in_words(found)
        differ = f"{then} then, {now} now" if then != now else f"{now} as then, but with other pixels"
        other_decoder = f" (or delete {store.path(DATA_FILE)} if only their decoder has changed)" if then == now else ""
        raise UserError(
            f"The images of data.path {path!r} are not those that the run {store.location} was made with: {differ}; "
            f"give the path of the same images{other_decoder}, or choose another --name for a run of these."
        )
    return True


def _in_words(record: DataRecord) -> str:
    titles = {"images": "training", "held_out": "held-out"}
    return " and ".join(f"{values['num']} {titles[name]} images" for name, values in record.items())


def continued(old: Config, new: Config) -> Config:
    """The new config, with the course of the rate that the run has, where it names none of its own."""
    before = old.learning
    same_length = new.learning.num_updates == before.num_updates
    decay = before.decay_updates if same_length else before.rate_updates
    if new.learning.decay_updates is not None or decay is None:
        return new
    return new.model_copy(update={"learning": new.learning.model_copy(update={"decay_updates": decay})})


def check_same(old: Config, new: Config, location: str, *, same_images: bool) -> None:
    """Raises UserError if the run at this location cannot go on with the new config, continued from the old one."""
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


def evaluation_differences(old: Config, new: Config) -> list[str]:
    """In words: the settings of what a result measures."""
    kept = (settings_of(config, only="evaluate.", leave_out=("evaluate.every",)) for config in (old, new))
    return differences(*kept)


def longer_in_words(old: Config, new: Config, location: str) -> str:
    """What a user is told of a run that is trained past the end it had."""
    learning, course = new.learning, new.learning.rate_updates
    rate = "stays" if learning.final_rate == 1 else f"stays at {learning.final_rate:g} of its full value"
    return (
        f"The run {location} goes on to {learning.num_updates} updates (it had {old.learning.num_updates}). Its "
        f"learning rate keeps the course over {course} updates that it had, and then {rate}; for a rate that rises and "
        f"falls anew, start another run from its weights: --from {shlex.quote(location)} --name NAME."
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
