"""How long the rest of a sweep takes."""

import statistics
from collections.abc import Sequence


def seconds_left(took: Sequence[float], running: Sequence[float], *, num_waiting: int, concurrent: int) -> float | None:
    """At the mean pace of trials that have ended: those that were pruned are part of what is to be expected.

    took: seconds of each of them; running: seconds since each running trial began; num_waiting: trials that have not
    begun. Trials share `concurrent` places, so the rest takes as long as its mean place, and as its longest trial.
    None where no trial has ended.
    """
    if not took:
        return None
    mean = statistics.mean(took)
    left = [max(0.0, mean - seconds) for seconds in running] + [mean] * num_waiting
    return max(sum(left) / concurrent, *left) if left else 0.0
