"""Reading the log of a run, metrics.jsonl: the types of its records, all of them at once, or as they are written."""

import io
import os
from pathlib import Path
from typing import Any, BinaryIO, NotRequired, TypedDict

from distmgcd.runs import strict_json
from distmgcd.runs.run_folder import METRICS_FILE
from distmgcd.runs.store import Store

LOG = f"log/{METRICS_FILE}"  # in the run's folder

Record = dict[str, Any]  # any of the following


class UpdateRecord(TypedDict):
    """The updates since the last such record."""

    update: int  # done, so the last of them
    num_updates: int  # of the whole run
    num_workers: int
    images_per_s: float  # of all workers
    seconds_left: float
    grids: dict[str, dict[str, float | None]]  # by size: gap, drift_to_noise and the means of core.learning.METRICS


class EvaluationRecord(TypedDict):
    """Means and standard deviations over evaluate.num_draws draws."""

    update: int
    swd: dict[str, float]  # by size of the images
    swd_spread: dict[str, float]
    fd: NotRequired[dict[str, float]]  # by name of the measure, if evaluate.features is set
    fd_spread: NotRequired[dict[str, float]]


class CheckpointRecord(TypedDict):
    update: int  # of the checkpoint: earlier than that of the record before, as it is written in the background
    checkpoint: dict[str, float]  # seconds: pause_s of the loop, write_s in the background


class Event(TypedDict):
    """A sentence under "event", "doing" (what is begun and takes a while) or "diverged" (the end), and its numbers."""

    update: int
    event: NotRequired[str]
    doing: NotRequired[str]
    diverged: NotRequired[str]
    speed: NotRequired[dict[str, Any]]  # how chains are executed from here on
    rate: NotRequired[dict[str, float]]  # how fast this machine is
    rate_scale: NotRequired[Any]  # of learning rates: the run resumes or rolled back
    after: NotRequired[list[str]]  # what ended earlier workers
    failure: NotRequired[str]  # of workers, that are started again; such an event is not in the log


def read_log(store: Store, *, last_bytes: int | None = None) -> list[Record]:
    """Every whole record of a run's log, or those that begin in its last bytes. Raises OSError."""
    if not store.exists(LOG):
        return []
    content = store.read(LOG) if last_bytes is None else store.read_end(LOG, last_bytes)
    return [record for line in content.splitlines() if (record := record_of(line)) is not None]


def record_of(line: bytes | str) -> Record | None:
    """None for half a line, as of a process that was killed."""
    try:
        record = strict_json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and "update" in record else None


class LogFollower:
    """Reads a log while another process writes it: each record once, also where a restart cuts the log back.

    A context, which closes the log at its end.
    """

    def __init__(self, store: Store):
        """Records that are there already are passed over."""
        self._store = store
        self._path = Path(store.path(LOG)) if store.is_local else None
        self._file: BinaryIO | None = None  # stands after the last line that was read
        self._open_if_other()
        if self._file:
            self._file.seek(0, os.SEEK_END)

    def new(self) -> list[Record]:
        """The whole records since the last call."""
        self._open_if_other()
        found = []
        while self._file and (line := self._file.readline()):
            if not line.endswith(b"\n"):  # it is being written
                self._file.seek(-len(line), os.SEEK_CUR)
                break
            if (record := record_of(line)) is not None:
                found.append(record)
        return found

    def __enter__(self) -> "LogFollower":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()

    def _open_if_other(self) -> None:
        """A restart puts another file in place; a remote log is another object each time."""
        if self._path is None:
            if self._store.exists(LOG):
                self._turn_to(io.BytesIO(self._store.read(LOG)))
        elif self._path.exists() and not (self._file and _is_at(self._path, self._file)):
            self._turn_to(self._path.open("rb"))

    def _turn_to(self, file: BinaryIO) -> None:
        """Go on after the lines that both files have: these were read before."""
        if self._file:
            end, position = self._file.tell(), 0
            self._file.seek(0)
            while position < end and (line := file.readline()) and line == self._file.readline():
                position += len(line)
            file.seek(position)
            self._file.close()
        self._file = file


def _is_at(path: Path, file: BinaryIO) -> bool:
    return os.path.samestat(path.stat(), os.fstat(file.fileno()))
