"""Ending a run on request: it saves where it is, and the same command resumes there."""

import enum
import signal
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Request(enum.IntEnum):
    """What is asked of a run between two updates; of several wishes the largest counts."""

    CONTINUE = 0
    SAVE = 1  # at once, then go on: a node is about to be taken away
    STOP = 2  # save, then leave


class Stopped(Exception):
    """A run that left on request, with a checkpoint of where it was."""

    def __init__(self, update: int | None):
        """update: updates done and saved; None if it had not begun."""
        super().__init__(
            "Stopped before it began; the same command starts it."
            if update is None
            else f"Stopped at update {update} and saved it; the same command goes on from there."
        )
        self.update = update


class StopSignals:
    """Inside, the first SIGTERM or Ctrl-C is a request, given by calling this; the second one ends the command.

    Only for the main thread of a command, for signal handlers belong to the whole process.
    """

    def __init__(self) -> None:
        self.received: int | None = None  # the number of the first signal
        self._before: dict[int, Any] = {}  # handlers

    def __call__(self) -> bool:
        return self.received is not None

    @property
    def status(self) -> int:
        """The exit status of a command that a signal ended."""
        return 128 + (self.received or signal.SIGINT)

    def __enter__(self) -> "StopSignals":
        self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received = number
            return
        for further in SIGNALS:  # what ends now is not to be interrupted in turn
            signal.signal(further, signal.SIG_IGN)
        raise KeyboardInterrupt
