"""A worker that hangs is found, named and ended, so that whoever started the workers can start them again.

Every worker posts a beat to a mailbox that all can read: how often it has posted, and what it is doing since when.
Two of them read all beats, so that each is watched. Clocks are never compared: a reader remembers by its own
clock when it last saw a beat change.

    silent   the beat itself stopped: the process is frozen, or its machine is gone
    still    no worker has got anything done for longer than it has patience for. To blame are those that do not
             wait for the others: one that does not come to the gradient average keeps all the rest waiting there
"""

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

_ELSEWHERE = 6.0  # times the patience for an update: reading data, evaluating and saving take longer, but not for ever
_SLOWEST = 5.0  # times the longest update so far: a run whose updates take minutes is not stuck
_TICKS = 20  # looks within the time that a worker may be stuck
_NUM_WATCHERS = 2


class HeartbeatMailbox(Protocol):
    """Where workers post things for each other; it must not live in one of them."""

    def post(self, rank: int, text: str) -> None: ...

    def read(self, rank: int) -> str | None: ...


@dataclass(frozen=True)
class Heartbeat:
    """What one worker posts."""

    count: int  # how often it has posted
    steps: int  # how many things it has got done
    doing: str
    waits: bool  # for the other workers
    patience: float  # seconds for which it may be at one thing
    where: str  # the line that its training is at
    who: str  # "host X, process 123"


class Activity:
    """What this worker is doing: written by its training thread, read by its watchdog."""

    def __init__(self) -> None:
        self.steps, self.doing, self.waits, self.in_update = 0, "its start", False, False
        self.slowest = 0.0  # seconds of the longest update
        self.thread = threading.get_ident()
        self._since = time.monotonic()

    def update(self, update: int) -> None:
        """An update begins."""
        now = time.monotonic()
        if self.in_update and self.steps > 1:  # the first of a process takes longer, and is no measure
            self.slowest = max(self.slowest, now - self._since)
        self._since = now
        self.doing, self.in_update, self.waits = f"update {update}", True, False
        self.steps += 1

    def other(self, what: str) -> None:
        """Something that is no update begins."""
        self.doing, self.in_update, self.waits = what, False, False
        self.steps += 1

    def wait(self, waits: bool = True) -> None:
        """It has come to where it needs the other workers, or past it."""
        self.waits = waits
        self.steps += 1

    def patience(self, limit: float) -> float:
        return max(limit, _SLOWEST * self.slowest) * (1.0 if self.in_update else _ELSEWHERE)


class Watchdog(threading.Thread):
    """Posts this worker's beat and, in the first two workers, watches those of all."""

    def __init__(
        self,
        activity: Activity,
        mailbox: HeartbeatMailbox,
        *,
        rank: int,
        world_size: int,
        limit: float,
        on_stuck: Callable[[str], None],
    ):
        """limit: seconds an update may take; on_stuck: called once, by one worker, with a sentence that names whom."""
        super().__init__(name="watchdog", daemon=True)
        self._activity, self._mailbox, self._limit, self._on_stuck = activity, mailbox, limit, on_stuck
        self._rank, self._world_size = rank, world_size
        self._watch = _Watch(world_size, limit)
        self._ended = threading.Event()

    def end(self) -> None:
        self._ended.set()

    def run(self) -> None:
        interval, count = min(5.0, self._limit / _TICKS), 0
        while not self._ended.wait(interval):
            count += 1
            try:
                self._mailbox.post(self._rank, json.dumps(asdict(heartbeat_of(self._activity, count, self._limit))))
                verdict = self._look() if self._rank < _NUM_WATCHERS else None
            except Exception:  # whatever the mailbox raises: it may be out of reach for a while
                continue
            if verdict:
                self._on_stuck(verdict)
                return

    def _look(self) -> str | None:
        """A sentence about the workers that are stuck, if it is for this worker to act."""
        texts = {rank: self._mailbox.read(rank) for rank in range(self._world_size)}
        if self._ended.is_set():
            return None
        stuck = self._watch.look({rank: Heartbeat(**json.loads(text)) for rank, text in texts.items() if text})
        if not stuck:
            return None
        able = [rank for rank in range(min(_NUM_WATCHERS, self._world_size)) if rank not in self._watch.silent()]
        return self._watch.sentence(stuck) if able and able[0] == self._rank else None


class _Watch:
    """The beats of all workers as one of them sees them."""

    def __init__(self, world_size: int, limit: float, now: Callable[[], float] = time.monotonic):
        self._limit, self._now, self._world_size = limit, now, world_size
        self._beats: dict[int, Heartbeat] = {}
        self._beat_at: dict[int, float] = {}  # when the last new beat was seen
        self._step_at: dict[int, float] = {}  # when the last new step was seen
        self._looked_at = now()

    def look(self, beats: dict[int, Heartbeat]) -> list[int]:
        """The workers that are stuck, given what is on the mailbox now."""
        now = self._now()
        if now - self._looked_at > self._limit / 2:  # it is this process that slept, so it has seen nothing
            self._beat_at, self._step_at = dict.fromkeys(self._beat_at, now), dict.fromkeys(self._step_at, now)
        self._looked_at = now
        for rank, beat in beats.items():
            old = self._beats.get(rank)
            if old is None or beat.count != old.count:
                self._beat_at[rank] = now
            if old is None or beat.steps != old.steps:
                self._step_at[rank] = now
        self._beats.update(beats)
        return self.silent() or self._still()

    def silent(self) -> list[int]:
        return [rank for rank, at in self._beat_at.items() if self._now() - at > self._limit]

    def _still(self) -> list[int]:
        if len(self._beats) < self._world_size:  # some have not begun
            return []
        if any(self._now() - self._step_at[rank] <= beat.patience for rank, beat in self._beats.items()):
            return []
        at_work = [rank for rank, beat in self._beats.items() if not beat.waits]
        return at_work or list(self._beats)

    def sentence(self, ranks: list[int]) -> str:
        rank, beat = ranks[0], self._beats[ranks[0]]
        others = f", and so have ranks {', '.join(map(str, ranks[1:]))}" if len(ranks) > 1 else ""
        if rank in self.silent():
            seconds = self._now() - self._beat_at[rank]
            return f"Rank {rank} ({beat.who}) has given no sign of life for {seconds:.0f} s{others}."
        seconds = self._now() - self._step_at[rank]
        return f"Rank {rank} ({beat.who}) has been stuck in {beat.doing} for {seconds:.0f} s, at {beat.where}{others}."


def heartbeat_of(activity: Activity, count: int, limit: float) -> Heartbeat:
    return Heartbeat(
        count=count,
        steps=activity.steps,
        doing=activity.doing,
        waits=activity.waits,
        patience=activity.patience(limit),
        where=_line_of(activity.thread),
        who=f"host {socket.gethostname()}, process {os.getpid()}",
    )


def _line_of(thread: int) -> str:
    """The innermost line of this package that a thread is at."""
    frame = sys._current_frames().get(thread)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if "distmgcd" in path.parts:
            return f"{path.name}, line {frame.f_lineno}, {frame.f_code.co_name}"
        frame = frame.f_back
    return "an unknown line"
