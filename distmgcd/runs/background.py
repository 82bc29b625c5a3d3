"""One job at a time on a thread of its own, so that the training loop does not wait for a disk."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass


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
        except BaseException as error:  # told by take, on the thread that gave the job
            self._error = error
        self._seconds = time.perf_counter() - start
