"""What a user asks to be measured."""

import pytest

from distmgcd.errors import UserError
from distmgcd.evaluation.subject import Request, parse_metrics, parse_steps


def test_metrics_are_named_with_commas_and_come_in_their_own_order():
    assert parse_metrics("fd, swd") == ("swd", "fd") and parse_metrics(None) is None
    assert Request(metrics=("swd",)).wants("fd", "swd") and not Request(metrics=("swd",)).wants("fd")
    assert Request().wants("anything")


def test_steps_are_multiples_in_rising_order():
    assert parse_steps("10K,k, 2K") == (1, 2, 10) and parse_steps("K,1K") == (1,)


@pytest.mark.parametrize("text", ["", "100", "0K", "K,", "2.5K", "K;2K", "-1K"])
def test_other_steps_are_told(text: str):
    with pytest.raises(UserError, match="write --steps K,2K,10K"):
        parse_steps(text)


def test_an_unknown_metric_is_told_with_a_suggestion():
    with pytest.raises(UserError, match="has 'sdw' .did you mean 'swd'"):
        parse_metrics("fd,sdw")
