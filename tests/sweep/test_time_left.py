"""How long the rest of a sweep takes."""

import pytest

from distmgcd.sweep.time_left import seconds_left


@pytest.mark.parametrize(
    ("took", "running", "num_waiting", "concurrent", "left"),
    [
        ([], [5.0], 9, 2, None),
        ([100.0, 20.0], [], 0, 2, 0.0),
        ([100.0], [], 6, 2, 300.0),
        ([100.0, 20.0], [], 6, 2, 180.0),  # pruned trials are part of what is to be expected
        ([100.0], [40.0], 0, 4, 60.0),  # one trial, on one of four places
        ([100.0], [40.0, 250.0], 0, 2, 60.0),  # the second one takes longer than usual
        ([100.0], [90.0, 90.0], 1, 2, 100.0),
    ],
)
def test_running_trials_take_what_is_left_of_them(took, running, num_waiting: int, concurrent: int, left):
    assert seconds_left(took, running, num_waiting=num_waiting, concurrent=concurrent) == left
