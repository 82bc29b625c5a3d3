"""How fast a run goes lately, from which follows how long the rest of it takes."""

import statistics
import time
from collections import deque
from collections.abc import Callable

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
        self.announced = False  # that the user was told how long the run takes

    def start(self) -> None:
        """An update begins, after something else."""
        self._since = self._clock()

    def end_update(self) -> None:
        """An update is done. Only the first one has to be told apart."""
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
