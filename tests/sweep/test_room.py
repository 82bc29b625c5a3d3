"""How many trials fit beside each other."""

import pytest

from distmgcd.errors import UserError
from distmgcd.sweep.room import room_for

MACHINE = {"where": "this machine", "cpus": 4, "gpus": 0, "threads": 1, "use_gpu": False, "num_trials": 20}


@pytest.mark.parametrize(
    ("asked", "concurrent", "cpus"),
    [
        ({"workers": 0, "concurrent": None}, 4, 4),
        ({"workers": 1, "concurrent": None}, 4, 4),
        ({"workers": 2, "concurrent": None}, 2, 4),
        ({"workers": 3, "concurrent": None}, 1, 3),
        ({"workers": 2, "concurrent": 1}, 1, 2),
        ({"workers": 0, "concurrent": None, "threads": 2}, 2, 4),
        ({"workers": 0, "concurrent": None, "num_trials": 3}, 3, 3),
        ({"workers": 2, "concurrent": None, "use_gpu": True, "gpus": 3}, 1, 2),
    ],
)
def test_as_many_trials_as_fit_with_all_their_workers(asked: dict, concurrent: int, cpus: int):
    room = room_for(**MACHINE | asked)
    assert (room.concurrent, room.cpus) == (concurrent, cpus)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"workers": 5, "concurrent": None}, "which has 4 CPUs; lower --workers-per-trial"),
        ({"workers": 2, "concurrent": 3}, "lower --concurrent to 2"),
        ({"workers": 0, "concurrent": 3, "threads": 2}, "lower --concurrent to 2"),
        ({"workers": 2, "concurrent": 2, "use_gpu": True, "gpus": 3}, "which has 4 CPUs and 3 GPUs"),
        ({"workers": -1, "concurrent": 1}, "must be at least 0"),
        ({"workers": 0, "concurrent": 0}, "at least 1"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(asked: dict, said: str):
    with pytest.raises(UserError) as error:
        room_for(**MACHINE | asked)
    assert said in str(error.value) and str(error.value).endswith(".")
