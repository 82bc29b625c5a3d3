"""Which checkpoints of a run are the newest and the best, and which ones stay.

A checkpoint has a score if there was an evaluation at its update: smaller is better.
"""

import logging
import math
import re
from collections.abc import Callable, Mapping

from distmgcd.errors import UserError
from distmgcd.runs import checkpoint, strict_json
from distmgcd.runs.checkpoint import FOLDER, Checkpoint, DamagedCheckpoint, Measured, Progress
from distmgcd.runs.store import Store

_logger = logging.getLogger(__name__)


def family_of(metric: str) -> str:
    """swd of swd/16."""
    return metric.partition("/")[0]


def score(values: Mapping[str, float] | None, metric: str) -> float | None:
    """One number of the distances of a family: their mean for the metrics swd and fd, one of them for swd/16."""
    if not values:
        return None
    one = metric.partition("/")[2]
    value = values.get(one) if one else sum(values.values()) / len(values)
    return math.inf if value is not None and math.isnan(value) else value


def scores(store: Store, metric: str) -> dict[str, float]:
    """The scores of all checkpoints that have one, oldest first. Their checksums are not looked at."""
    found = {name: _score_of(store, name, metric) for name in checkpoint.names(store)}
    return {name: value for name, value in found.items() if value is not None}


def newest_score(store: Store, metric: str) -> float | None:
    for name in reversed(checkpoint.by_time(store)):
        if (value := _score_of(store, name, metric)) is not None:
            return value
    return None


def prune(store: Store, keep: int, *, keep_best: int = 0, metric: str = "swd", update: int | None = None) -> None:
    """Delete all but the newest `keep` checkpoints and the best `keep_best`, and what killed processes left.

    That of update 0, of a run that started from another one's weights, and those of earlier ends always stay.

    update: of the checkpoint just written. Later ones are damaged, or of before a roll-back, or we would have gone
    on from them: they do not count, and stay until they are written anew.
    """
    names = [name for name in checkpoint.names(store) if update is None or checkpoint.update_of(name) <= update]
    kept = {*names[-keep:], checkpoint.name_of(0), *_of_earlier_ends(store)}
    if keep_best:
        found = scores(store, metric)
        kept |= set(sorted(filter(found.__contains__, names), key=found.__getitem__)[:keep_best])
    for name in names:
        if name not in kept:
            checkpoint.discard(store, f"{FOLDER}/{name}")
    checkpoint.discard_left_overs(store)


def stays(store: Store, progress: Progress, measured: Measured, *, keep_best: int, metric: str) -> bool:
    """Whether to keep the checkpoint of this update that the run wrote before it was rolled back.

    So it is if it belongs to an earlier end of the run, and if it is one of the best and what would be written in its
    place is no better or was not measured.
    """
    if progress.num_retries == 0:  # of most runs, which look at nothing for it
        return False
    name = checkpoint.name_of(progress.update)
    if name not in checkpoint.names(store) or checkpoint.num_retries_of(store, name) >= progress.num_retries:
        return False
    if name in _of_earlier_ends(store):
        return True
    found = scores(store, metric)
    if name not in sorted(found, key=found.__getitem__)[:keep_best]:
        return False
    new = score(measured.get(family_of(metric)), metric)
    return new is None or new >= found[name]


def discard_after(store: Store, update: int, *, metric: str) -> None:
    """Delete the checkpoints of more updates: a run that diverged after them resumes from this one.

    Not the best by the metric, nor those of earlier ends. Raises OSError.
    """
    found = scores(store, metric)
    kept = {*_of_earlier_ends(store), *([min(found, key=found.__getitem__)] if found else [])}
    for name in checkpoint.names(store):
        if checkpoint.update_of(name) > update and name not in kept:
            checkpoint.discard(store, f"{FOLDER}/{name}")


def best(store: Store, metric: str, warn: Callable[[str], None] = _logger.warning) -> Checkpoint | None:
    """The checkpoint of the smallest score that is whole; None if none is. Damaged ones are skipped with a warning."""
    found = scores(store, metric)
    for name in sorted(found, key=found.__getitem__):
        try:
            return checkpoint.read(store, name)
        except DamagedCheckpoint as error:
            warn(f"The checkpoint {store.path(f'{FOLDER}/{name}')} is damaged ({error}); using the next best.")
    return None


def clearly_best(store: Store, metric: str, *, end: str) -> str | None:
    """The name of the best checkpoint, if the one at the end of the run is worse by more than the spreads of both.

    A spread is the standard deviation over draws; of a checkpoint that does not say its own, that of the end.
    """
    found = scores(store, metric)
    best_name = min(found, key=found.__getitem__, default=end)
    if end not in found or best_name == end:
        return None
    of_end = _score_of(store, end, metric, spread=True) or 0.0
    of_best = _score_of(store, best_name, metric, spread=True)
    margin = of_end + (of_end if of_best is None else of_best)
    return best_name if found[end] - found[best_name] > (margin if math.isfinite(margin) else 0.0) else None


def ended_with(store: Store) -> str:
    """The name of the checkpoint that a finished run ended with, where its result says so; else "newest"."""
    try:
        result = strict_json.loads(store.read("result.json")) if store.exists("result.json") else {}
        name, update = result["ended_with"]["checkpoint"], result["update"]
    except (OSError, ValueError, KeyError, TypeError):  # an older version, or a damaged one, of which `verify` says so
        return "newest"
    names = checkpoint.names(store)
    goes_on = any(checkpoint.update_of(other) > update for other in names)
    return name if name in names and not goes_on else "newest"


def find(store: Store, which: str, *, metric: str) -> Checkpoint | None:
    """The checkpoint that a run ended with, the newest, the best, or that of an update ("update_000200" or "200").

    None if none is whole yet. Raises UserError if the one asked for is not there or is damaged.
    """
    if which == "end":
        which = ended_with(store)
    if which == "newest":
        return checkpoint.newest(store)
    names = checkpoint.names(store)
    if which == "best":
        if names and not scores(store, metric):
            raise UserError(
                f"No checkpoint of the run {store.location} has a score yet, so none is the best: set evaluate.every "
                "for that, or take the newest."
            )
        return best(store, metric)
    name = checkpoint.name_of(int(which)) if which.isdecimal() else which
    if name not in names:
        raise UserError(
            f"There is no checkpoint {which!r} of the run {store.location}; give end, newest, best"
            f"{''.join(f', {known}' for known in names)}."
        )
    try:
        return checkpoint.read(store, name)
    except DamagedCheckpoint as error:
        raise UserError(
            f"The checkpoint {store.path(f'{FOLDER}/{name}')} is damaged ({error}); take another, or the newest."
        ) from None


def _of_earlier_ends(store: Store) -> list[str]:
    """The names of checkpoints at which a run had a result before it was trained further."""
    found = (re.fullmatch(r"result_(\d+)\.json", name) for name in store.names(""))
    return [checkpoint.name_of(int(match[1])) for match in found if match]


def _score_of(store: Store, name: str, metric: str, *, spread: bool = False) -> float | None:
    family = f"{family_of(metric)}_spread" if spread else family_of(metric)
    try:
        return score(strict_json.loads(store.read(f"{FOLDER}/{name}/state.json")).get(family), metric)
    except (OSError, ValueError, AttributeError):
        return None
