"""Checkpoints while training goes on: copied at once, written in the background, reported when that is done."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from distmgcd.config import Checkpointing
from distmgcd.core.learning import Learner
from distmgcd.core.synthesis import StartDistribution
from distmgcd.errors import UserError
from distmgcd.runs import checkpoint, learner_state, retention
from distmgcd.runs.checkpoint import Measured, Progress
from distmgcd.runs.learner_state import Snapshot
from distmgcd.runs.log import Log
from distmgcd.runs.store import Store


@dataclass(frozen=True)
class Outcome:
    """How a job ended."""

    seconds: float
    error: OSError | None


class Background:
    """Whoever gives a job takes its outcome before giving the next; so at most one is under way, and none is lost.

    The thread is no daemon: a process that ends waits for it.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._seconds = 0.0
        self._error: BaseException | None = None

    def submit(self, job: Callable[[], None]) -> None:
        if self._thread:
            raise RuntimeError("the outcome of the job before has not been taken")
        self._thread = threading.Thread(target=self._run, args=(job,), name="checkpoint")
        self._thread.start()

    def take(self, *, wait: bool) -> Outcome | None:
        """The outcome of the job; None if there was none, or if it is under way and we do not wait.

        Raises what the job raised if that was no OSError.
        """
        if not self._thread or (not wait and self._thread.is_alive()):
            return None
        self._thread.join()
        self._thread, error, self._error = None, self._error, None
        if error and not isinstance(error, OSError):
            raise error
        return Outcome(self._seconds, error)

    def _run(self, job: Callable[[], None]) -> None:
        start = time.perf_counter()
        try:
            job()
        except BaseException as error:  # raised by take, on the thread that gave the job
            self._error = error
        self._seconds = time.perf_counter() - start


class NotSaved(UserError):
    """The end of a run could not be written; the same command tries again."""


class Saver:
    """Writes the checkpoints of a run; rank 0 has one. One write at a time: the next waits for it."""

    def __init__(self, store: Store, settings: Checkpointing, log: Log, emit: Callable[[dict[str, Any]], None]):
        """emit: called with a record for the log and the user, on the thread that calls save and settle."""
        self._store = store
        self._settings = settings
        self._log = log
        self._emit = emit
        self._background = Background()
        self._update = 0  # of the checkpoint that is being written
        self._pause_s = 0.0
        self.error: OSError | None = None  # what made the last write fail
        self._stays = False  # the checkpoint that was to be written over
        self._afterwards: OSError | None = None  # what went wrong once the checkpoint was safe

    def save(
        self,
        learner: Learner,
        starts: StartDistribution,
        progress: Progress,
        *,
        measured: Measured | None = None,
        chains: dict[str, Tensor] | None = None,
        speed: Mapping[str, Any] | None = None,
    ) -> None:
        """Copy the state and have it written, after what is still being written.

        Not over a checkpoint from before the run went back that is to stay (retention.stays).
        """
        start = time.perf_counter()
        self.settle()
        snapshot = learner_state.snapshot(learner, starts, progress, measured=measured, chains=chains, speed=speed)
        self._update = progress.update
        self._background.submit(lambda: self._write(snapshot))
        self._pause_s = time.perf_counter() - start

    def settle(self, *, wait: bool = True) -> OSError | None:
        """Emit how the last write went, once it has ended; returns what made it fail."""
        outcome = self._background.take(wait=wait)
        if outcome is None:
            return None
        self.error = outcome.error
        if outcome.error:
            self._emit({"update": self._update, "event": self._failure(outcome.error)})
        elif self._stays:
            text = (
                f"The checkpoint of update {self._update} stays as it was before the run went back: it is the best, or "
                "that of an earlier end. The next one saves the run as it is now."
            )
            self._emit({"event": text})
        else:
            times = {"pause_s": self._pause_s, "write_s": outcome.seconds}
            self._emit({"update": self._update, "checkpoint": times})
        if self._afterwards:
            reason, self._afterwards = reason_of(self._afterwards), None
            self._emit({"event": f"Old checkpoints could not be deleted, or the log not copied ({reason})."})
        return outcome.error

    def _write(self, snapshot: Snapshot) -> None:
        settings, update = self._settings, snapshot.progress.update
        how = {"keep_best": settings.keep_best, "metric": settings.metric}
        self._stays = retention.stays(self._store, snapshot.progress, snapshot.measured, **how)
        if self._stays:
            return
        learner_state.write(self._store, snapshot)
        try:
            retention.prune(
                self._store, settings.keep, keep_best=settings.keep_best, metric=settings.metric, update=update
            )
            self._log.copy_to(self._store)
        except OSError as error:
            self._afterwards = error

    def _failure(self, error: OSError) -> str:
        try:
            names = checkpoint.by_time(self._store)
        except OSError:
            names = []
        before = f"the checkpoint of update {checkpoint.update_of(names[-1])}" if names else "the start"
        return (
            f"The checkpoint of update {self._update} could not be written ({reason_of(error)}); training goes on, the "
            f"next checkpoint tries again, and until then a restart goes on from {before}."
        )


def reason_of(error: OSError) -> str:
    return " ".join(str(error.strerror or error).split()).rstrip(".")


def not_saved(when: str, what: str, error: OSError, store: Store) -> NotSaved:
    return NotSaved(
        f"The run {store.location} {when}, but {what} could not be written ({reason_of(error)}); free "
        "space there or mend what is wrong, and run the same command again: it goes on from the newest checkpoint."
    )
