"""The runs under a storage path with their states: what `distmgcd runs` shows."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

import yaml

from distmgcd.config import Config
from distmgcd.errors import UserError
from distmgcd.runs import checkpoint, lock, retention
from distmgcd.runs.read_log import read_log
from distmgcd.runs.run_folder import Run
from distmgcd.runs.store import Store

_LOG_END = 2**18  # bytes of the log that are looked at

State = Literal["finished", "running", "stopped", "diverged", "damaged"]


@dataclass(frozen=True)
class Summary:
    """A run at one glance. Checksums are not looked at: `distmgcd verify` does that."""

    name: str
    state: State
    update: int  # of its newest record if it is running, else of its newest checkpoint
    num_updates: int | None  # None: its config cannot be read
    score: float | None  # of its result, or else its newest, by metric
    metric: str  # checkpoint.metric
    num_bytes: int
    written: datetime | None  # when a file of it was last written; None where the file system does not say


def summaries(storage_path: str) -> list[Summary]:
    """The runs directly under a storage path, by name; what is no run is left out. Of a run's own folder, that run.

    Raises UserError.
    """
    try:
        store = Store(storage_path)
        if store.exists("config.yaml"):
            found = summary_of(Run.open(storage_path))
            return [replace(found, name=found.name or storage_path)]  # "." has no name
        return [summary_of(Run.at(storage_path, name)) for name in store.names("") if _is_run(store, name)]
    except OSError as error:
        raise UserError(f"The runs of {storage_path} cannot be listed ({error}); check the path.") from None


def summary_of(run: Run) -> Summary:
    store, files = run.store, run.store.files()
    names = checkpoint.names(store)
    update = checkpoint.update_of(names[-1]) if names else 0
    try:
        config, result = run.config(), run.result()
        metric = config.checkpoint.metric
        measured = result.get(retention.family_of(metric), {}) if result else {}
        score = retention.score(measured.get("samples"), metric)
        if score is None:
            score = retention.newest_score(store, metric)
        state, update = _state(store, config, result, update)
    except (UserError, OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError):
        config, score, metric, state = None, None, "swd", "damaged"
    return Summary(
        name=run.name,
        state=state,
        update=update,
        num_updates=config.learning.num_updates if config else None,
        score=score,
        metric=metric,
        num_bytes=sum(info.size or 0 for info in files),
        written=max((info.mtime for info in files if info.mtime), default=None),
    )


def _is_run(store: Store, name: str) -> bool:
    return store.exists(f"{name}/config.yaml")


def _state(store: Store, config: Config, result: dict[str, Any] | None, saved: int) -> tuple[State, int]:
    if result:
        return "finished", result["update"]
    last = _last_record(store)
    if lock.is_locked(store):
        return "running", max(saved, last.get("update", 0))
    if saved and not _any_readable(store):
        return "damaged", saved
    return ("diverged" if "diverged" in last else "stopped"), saved


def _any_readable(store: Store) -> bool:
    """Whether some checkpoint has what completes it."""
    return any(store.exists(f"{checkpoint.FOLDER}/{name}/checksums.json") for name in checkpoint.names(store))


def _last_record(store: Store) -> dict[str, Any]:
    """That of a checkpoint may come late and is passed over."""
    records = reversed(read_log(store, last_bytes=_LOG_END))
    return next((record for record in records if "checkpoint" not in record), {})
