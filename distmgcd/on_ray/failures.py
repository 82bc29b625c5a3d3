"""What became of workers: told to the user, and given up on where starting them again does not help."""

import re
from typing import Any

from ray.train import UserCallback

from distmgcd.on_ray.board import RunBoard
from distmgcd.runs import checkpoint
from distmgcd.runs.store import Store

MAX_FAILURES = 3  # restarts without a new checkpoint between them


class Failures(UserCallback):
    """Called in Ray's controller, which lives as long as the run."""

    def __init__(self, run: str, location: str):
        """run: of the board; location: of the run's folder."""
        self._run, self._location = run, location
        self._num_failures = 0  # since the newest checkpoint
        self._num_events = 0
        self._newest: str | None = None

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        board = RunBoard(self._run)
        newest = next(reversed(checkpoint.names(Store(self._location))), None)
        self._num_failures = 1 if newest != self._newest else self._num_failures + 1
        self._newest = newest
        why = why_of(worker_exceptions, {rank: board.get(f"verdict/{rank}") for rank in worker_exceptions})
        tracebacks = [text for rank in worker_exceptions if (text := board.get(f"traceback/{rank}"))]
        for rank in worker_exceptions:
            board.put(f"verdict/{rank}", None)
            board.put(f"traceback/{rank}", None)
        board.put("befallen", [*(board.get("befallen") or []), why])  # for the log of those that come after
        if self._num_failures > MAX_FAILURES:
            last = "".join(f"\n{text}" for text in tracebacks[:1])
            board.put("failed", f"{why} It has failed {self._num_failures} times without a new checkpoint.{last}")
            return
        board.put(
            f"event/{self._num_events}",
            f"{why} Starting the workers again (failure {self._num_failures} of at most {MAX_FAILURES} "
            "without a new checkpoint).",
        )
        self._num_events += 1


def why_of(exceptions: dict[int, Exception], verdicts: dict[int, str | None]) -> str:
    """What happened, in a sentence: the cause rather than what followed from it."""
    for rank in exceptions:
        if verdicts.get(rank):
            return verdicts[rank]
    for rank, error in exceptions.items():
        name = type(error).__name__
        if name == "WorkerHealthCheckTimeoutError":
            return f"Rank {rank} has been stuck: it does not answer Ray."
        if name == "WorkerHealthCheckFailedError":
            return f"Rank {rank} died ({_place(error)})."
    rank, error = next(iter(exceptions.items()))
    return f"Rank {rank} failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}."


def _place(error: Exception) -> str:
    """Host and process of a worker that died, from Ray's description of it."""
    text = str(error)
    found = {"host": re.search(r"node_ip='([^']+)'", text), "process": re.search(r"\bpid=(\d+)", text)}
    return ", ".join(f"{what} {match[1]}" for what, match in found.items() if match) or "Ray does not say where"
