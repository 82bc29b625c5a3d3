"""What the driver makes of the ways in which Ray Train's fit() can end; no Ray is started."""

from types import SimpleNamespace

import pytest
from ray.train import ControllerError

from distmgcd.errors import RunFailed
from distmgcd.on_ray.train import _follow


class Board:
    """A board with nothing on it."""

    def get(self, key: str) -> None:
        return None


def trainer(fit) -> SimpleNamespace:
    return SimpleNamespace(fit=fit)


def test_what_fit_returns_is_handed_on():
    fits = trainer(lambda: SimpleNamespace(return_value="the end"))
    assert _follow(fits, Board(), None, lambda: False) == "the end"


def test_workers_that_ray_cannot_start_are_told_in_a_sentence():
    def fit() -> None:
        raise ControllerError(RuntimeError("no group\n  after 4 tries"))

    with pytest.raises(RunFailed, match="could not start or keep the group of workers: no group after 4 tries"):
        _follow(trainer(fit), Board(), None, lambda: False)


def test_any_other_error_is_handed_on_as_it_is():
    def fit() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        _follow(trainer(fit), Board(), None, lambda: False)
