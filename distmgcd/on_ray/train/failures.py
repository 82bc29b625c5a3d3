"""Failures of workers: reported to the user, and the end of the run where starting them again does not help."""

import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray.exceptions import OutOfMemoryError, RayActorError, RayError, RayTaskError
from ray.train import ControllerError, UserCallback, WorkerGroupError

from distmgcd.errors import RunFailed, UserError
from distmgcd.on_ray.train.mailbox import RayMailbox
from distmgcd.runs import checkpoint
from distmgcd.runs.store import Store

MAX_FAILURES = 3  # restarts without a new checkpoint between them


class Failures(UserCallback):
    """Called in Ray's controller, which lives as long as the run."""

    def __init__(self, run: str, location: str):
        """run: of the mailbox; location: of the run's folder."""
        self._run, self._location = run, location
        self._num_failures = 0  # since the newest checkpoint
        self._num_events = 0
        self._newest: str | None = None

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        mailbox = RayMailbox(self._run)
        newest = next(reversed(checkpoint.names(Store(self._location))), None)
        self._num_failures = 1 if newest != self._newest else self._num_failures + 1
        self._newest = newest
        why = why_of(worker_exceptions, {rank: mailbox.get(f"verdict/{rank}") for rank in worker_exceptions})
        tracebacks = [text for rank in worker_exceptions if (text := mailbox.get(f"traceback/{rank}"))]
        for rank in worker_exceptions:
            mailbox.put(f"verdict/{rank}", None)
            mailbox.put(f"traceback/{rank}", None)
        mailbox.put(
            "worker_failures", [*(mailbox.get("worker_failures") or []), why]
        )  # for the log of those that come after
        if self._num_failures > MAX_FAILURES:
            what = f"{why} It has failed {self._num_failures} times without a new checkpoint."
            mailbox.put("failed", {"what": what, "traceback": "".join(tracebacks[:1])})
            return
        text = (
            f"{why} Starting the workers again (failure {self._num_failures} of at most {MAX_FAILURES} "
            "without a new checkpoint)."
        )
        mailbox.put(f"event/{self._num_events}", {"event": text, "failure": why})
        self._num_events += 1


def why_of(exceptions: dict[int, Exception], verdicts: dict[int, str | None]) -> str:
    """What happened, in a sentence: the cause rather than what followed from it."""
    for rank in exceptions:
        if verdict := verdicts.get(rank):
            return verdict
    for rank, error in exceptions.items():
        name = type(error).__name__
        if name == "WorkerHealthCheckTimeoutError":
            return f"Rank {rank} has been stuck: it does not answer Ray."
        if name == "WorkerHealthCheckFailedError":
            return f"Rank {rank} died ({_place(error)})."
    rank, error = next(iter(exceptions.items()))
    return f"Rank {rank} failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}."


@contextmanager
def ray_errors_as_run_failed(way_on: str) -> Iterator[None]:
    """What Ray raises, as RunFailed. way_on: what the user can do then, a sentence."""
    try:
        yield
    except RayError as error:
        raise failure_of(error, way_on) from error


def failure_of(error: BaseException, way_on: str) -> BaseException:
    """What fit() raised, as RunFailed that says what became of the run; what is no failure of Ray's stays as it is."""
    if isinstance(error, UserError | RunFailed) or not isinstance(error, Exception):
        return error
    cause = error
    while inner := getattr(cause, "controller_failure", None) or (isinstance(cause, RayTaskError) and cause.cause):
        cause = inner
    if known := _known(cause):
        return RunFailed(known, way_on=way_on)
    if isinstance(error, ControllerError):
        what = f"Ray could not start or keep the group of workers: {_in_short(cause)}."
        return RunFailed(what, way_on=way_on)
    why = f"{type(cause).__name__}: {_in_short(cause)}"
    if isinstance(cause, RayError):
        return RunFailed(f"Ray does not lead the run any more: {why}.", way_on=way_on)
    # Not foreseen, so whoever mends it needs to see where it came from.
    return RunFailed(
        f"The run ended by an error that Ray raised: {why}.",
        way_on=way_on,
        traceback="".join(traceback.format_exception(error)),
    )


def _known(cause: Exception) -> str | None:
    """What happened, where Ray has an error of its own for it."""
    if isinstance(cause, OutOfMemoryError):
        used = re.search(r"\bwas ([\d.]+)GB used / ([\d.]+)GB", str(cause))
        how_much = f" ({used[1]} of {used[2]} GB were in use)" if used else ""
        return (
            f"Memory ran out on a node{how_much}, and Ray ended the process that led the run. Free memory there, or "
            "give fewer workers or a smaller learning.global_batch_size."
        )
    if isinstance(cause, WorkerGroupError) and cause.worker_failures:
        return why_of(cause.worker_failures, {})
    if isinstance(cause, RayActorError):
        return f"The process of Ray that led the run died ({_place(cause)}): {_in_short(cause)}."
    return None


def _in_short(error: BaseException) -> str:
    return " ".join(str(error).split())[:300].rstrip(". ") or "it says no more"


def _place(error: Exception) -> str:
    """Host and process of a worker that died, from Ray's description of it."""
    text = str(error)
    found = {"host": re.search(r"node_ip='([^']+)'", text), "process": re.search(r"\bpid=(\d+)", text)}
    return ", ".join(f"{what} {match[1]}" for what, match in found.items() if match) or "Ray does not say where"
