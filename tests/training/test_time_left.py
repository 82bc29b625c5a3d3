"""How long the rest of a run takes, told from the updates of this process alone."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import Stopped, debug, log_of, stop_after, tiny_config

from distmgcd.config.cost import evaluation_cost, num_evaluations, run_cost, update_cost
from distmgcd.training import loop
from distmgcd.training.divergence import Diverged
from distmgcd.training.pace import Pace, announcement, seconds_left

BARE = ("learning.num_updates=1000", "evaluate.num_samples=1", "evaluate.num_draws=1", "evaluate.untrained=false")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def pace_of(records: Sequence[tuple[int, float]], *, first: float | None = None, break_s: float = 0.0) -> Pace:
    """Of records of so many updates that take so many seconds each; the first update takes `first`."""
    clock = Clock()
    pace = Pace(clock)
    for number, (num, seconds) in enumerate(records):
        clock.now += break_s
        pace.start()
        for update in range(num):
            clock.now += first if first is not None and number == update == 0 else seconds
            pace.end_update()
        pace.end_record(num)
    return pace


@pytest.mark.parametrize(
    ("records", "rate"),
    [
        ([(10, 2.0)], 2.0),
        ([(10, 2.0), (10, 50.0)], 2.0),  # one that was slow
        ([(10, 2.0)] * 4 + [(10, 50.0)] + [(5, 2.0)], 2.0),
        ([(10, 2.0)] * 20 + [(10, 3.0)] * 4, 2.0),
        ([(10, 2.0)] * 20 + [(10, 3.0)] * 5, 3.0),  # a lasting change
    ],
)
def test_the_rate_is_that_of_most_of_the_last_records(records: list[tuple[int, float]], rate: float):
    assert pace_of(records).seconds_per_update == pytest.approx(rate)


def test_the_first_update_of_a_process_counts_only_until_there_is_another():
    assert pace_of([]).seconds_per_update == 0
    assert pace_of([(1, 2.0)], first=30.0).seconds_per_update == pytest.approx(30)
    assert pace_of([(1, 2.0), (1, 2.0)], first=30.0).seconds_per_update == pytest.approx(2)
    assert pace_of([(10, 2.0)], first=30.0).seconds_per_update == pytest.approx(2)


def test_what_is_done_between_updates_is_no_part_of_them():
    assert pace_of([(10, 2.0)] * 3, break_s=500.0).seconds_per_update == pytest.approx(2)


def test_a_record_tells_all_of_its_seconds():
    clock = Clock()
    pace = Pace(clock)
    pace.start()
    for seconds in (30.0, 2.0):
        clock.now += seconds
        pace.end_update()
    assert pace.end_record(2) == pytest.approx(32)


def test_evaluations_that_are_still_to_come_are_part_of_what_is_left():
    config = tiny_config(
        "learning.num_updates=20", "evaluate.every=5", "evaluate.num_samples=8", "evaluate.num_draws=3"
    )
    ahead = {
        0: 5,
        1: 5,
        4: 5,
        5: 5,
        6: 4,
        14: 3,
        15: 3,
        16: 2,
        19: 2,
        20: 2,
    }  # at 5, 10, 15, 20, and the untrained model
    assert {done: num_evaluations(config, after=done) for done in ahead} == ahead
    left = run_cost(config, after=15)
    assert left == 5 * update_cost(config) + 3 * evaluation_cost(config)
    assert seconds_left(config, 15, 2.0) == pytest.approx(2.0 * left / update_cost(config))
    assert num_evaluations(tiny_config("evaluate.untrained=false")) == 1


def test_how_long_is_announced_once_and_not_of_what_is_over_in_a_minute():
    config = tiny_config(*BARE)
    pace = pace_of([(10, 8.0)], first=30.0)
    event = announcement(config, 10, pace)
    assert event["event"].startswith(
        "About 2 h 12 min to go: 990 updates and 1 evaluation, at 1 images/s as measured here"
    )
    assert event["rate"]["multiply_adds_per_s"] == pytest.approx(update_cost(config) / 8)
    assert announcement(config, 20, pace) is None
    assert announcement(config, 8, pace_of([(8, 8.0)], first=8.0)) is None  # too few yet
    assert announcement(config, 990, pace_of([(10, 2.0)])) is None


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch):
    """Runs take 2 s for an update, 30 s for the first one of a process, and 500 s for all else that takes a while."""
    clock = Clock()

    def taking(name: str, seconds: float) -> None:
        function = getattr(loop, name)

        def timed(*arguments, **how):
            clock.now += 28.0 if name == "advance" and arguments[0].pace._first is None else 0.0
            clock.now += seconds
            return function(*arguments, **how)

        monkeypatch.setattr(loop, name, timed)

    begin = loop.begin

    def begin_by_the_clock(*arguments):
        training, events = begin(*arguments)
        return replace(training, pace=Pace(clock)), events

    monkeypatch.setattr(loop, "begin", begin_by_the_clock)
    taking("advance", 2.0)
    for name in ("save", "evaluate", "roll_back"):
        taking(name, 500.0)


def test_time_left_after_a_roll_back_an_evaluation_and_a_resume(tmp_path: Path, timed, monkeypatch):
    """A divergence at update 6 goes back to the start, for there is no checkpoint; it is stopped after 9."""
    changes = (
        "learning.num_updates=12",
        "log.every=1",
        "checkpoint.every=8",
        "evaluate.every=7",
        "evaluate.num_draws=1",
    )
    check, struck = loop.check_health, []

    def strike_once(metrics, *, first_update: int, **how):
        if first_update == 6 and not struck:
            struck.append(first_update)
            raise Diverged("Grid 8x8 diverged.")
        check(metrics, first_update=first_update, **how)

    monkeypatch.setattr(loop, "check_health", strike_once)
    with pytest.raises(Stopped):
        debug(tmp_path, *changes, show=stop_after(9))
    records = [record for record in log_of(tmp_path) if "grids" in record]
    assert [record["update"] for record in records] == [*range(1, 7), *range(1, 10)]
    assert_true(records[1:], changes)
    result = debug(tmp_path, *changes)
    records = [record for record in log_of(tmp_path) if "grids" in record and record["update"] > 8]
    assert [record["update"] for record in records] == [9, 10, 11, 12]
    assert_true(records[1:], changes)
    assert result["seconds"] == 30 + 2 * 13 + 30 + 2 * 3  # of updates only; the ninth is not in the checkpoint


def assert_true(records: Sequence[dict[str, Any]], changes: Sequence[str]) -> None:
    config = tiny_config(*changes)
    for record in records:
        assert record["seconds_left"] == pytest.approx(seconds_left(config, record["update"], 2.0)), record["update"]
