"""How fast a run is, and so how long it takes: the time left of every record, and an announcement of it."""

import statistics
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from distmgcd.config import Config
from distmgcd.config.cost import in_words, num_evaluations, run_cost, update_cost
from distmgcd.terminal import hours_in_words

_NUM_RECORDS = 9  # the newest ones, from which the rate is taken


class Pace:
    """A clock of the updates of this process. What is done between two of them is not counted: checkpoints,
    evaluations, roll-backs.

    So its rate holds after a roll-back, whose updates are done twice, and after a resume on another machine.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter):
        self._clock = clock
        self._since = clock()
        self._first: float | None = None  # seconds of the first update: chains are recorded or compiled in it
        self._left_out = (0, 0.0)  # updates, seconds: the first update, until it was left out of a record
        self._rates: deque[float] = deque(maxlen=_NUM_RECORDS)  # seconds per update, of records without the first one
        self.num_updates = 0  # of all such records
        self.announced = False  # whether the time that the run takes was announced

    def start(self) -> None:
        """An update begins, after something else."""
        self._since = self._clock()

    def end_update(self) -> None:
        """An update is done. The first one is kept apart: it includes compilation."""
        if self._first is None:
            self._first = self._clock() - self._since
            self._left_out = (1, self._first)

    def end_record(self, num_updates: int) -> float:
        """Seconds since `start` or the last record, in which so many updates were done."""
        now = self._clock()
        seconds, self._since = now - self._since, now
        (num_left_out, s_left_out), self._left_out = self._left_out, (0, 0.0)
        if warm := num_updates - num_left_out:
            self._rates.append((seconds - s_left_out) / warm)
            self.num_updates += warm
        return seconds

    @property
    def seconds_per_update(self) -> float:
        """The median over the last records: a few slow ones do not move it, a lasting change shows after half of them.

        0 before the first record.
        """
        return statistics.median_low(self._rates) if self._rates else self._first or 0.0


_ENOUGH = 8  # updates from which a rate is announced
_SHORTEST = 60.0  # seconds: less time than this is not announced


def seconds_left(config: Config, done: int, seconds_per_update: float) -> float:
    """Of the updates and evaluations that are still to come; a sample takes as long as its multiply-adds in learning.

    done: updates; an evaluation of the last one is still to come.
    """
    return seconds_per_update * run_cost(config, after=done) / update_cost(config)


def announcement(config: Config, done: int, pace: Pace) -> dict[str, Any] | None:
    """The event that says, once in a process, how long the rest of the run takes at the rate that was measured."""
    if pace.announced or pace.num_updates < _ENOUGH:
        return None
    pace.announced, left = True, seconds_left(config, done, pace.seconds_per_update)
    if left < _SHORTEST:
        return None
    multiply_adds_per_s = update_cost(config) / pace.seconds_per_update
    images_per_s = config.learning.global_batch_size / pace.seconds_per_update
    text = (
        f"About {hours_in_words(left)} to go: {_what_is_left(config, done)}, at {images_per_s:.3g} images/s as "
        f"measured here ({in_words(multiply_adds_per_s)} multiply-adds/s)."
    )
    return {"event": text, "rate": {"images_per_s": images_per_s, "multiply_adds_per_s": multiply_adds_per_s}}


def _what_is_left(config: Config, done: int) -> str:
    num, updates = num_evaluations(config, after=done), config.learning.num_updates - done
    evaluations = "1 evaluation" if num == 1 else f"{num} evaluations"
    return f"{updates:,} update{'' if updates == 1 else 's'} and {evaluations}"
