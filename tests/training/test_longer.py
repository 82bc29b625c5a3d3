"""A run that has come to its end is trained further: its end is kept, and it is what it would have been."""

import json
from pathlib import Path

import pytest
import torch
from tiny_runs import Stopped, debug, records_of, result_of, state_of, stop_after, tiny_config

from distmgcd.core.learning import rate_factor
from distmgcd.errors import UserError
from distmgcd.models.assemble import make_method
from distmgcd.runs import checkpoint
from distmgcd.runs.listing import summary_of
from distmgcd.runs.run_folder import Run

LONGER = "learning.num_updates=10"
NINE = ("checkpoint.keep=1", "checkpoint.keep_best=0")


def assert_same(folder: Path, other: Path) -> None:
    ours, theirs = state_of(folder), state_of(other)
    assert ours.keys() == theirs.keys()
    assert not [name for name, value in ours.items() if not torch.equal(value, theirs[name])]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As long from the start, with the rate of the shorter run."""
    folder = tmp_path_factory.mktemp("unbroken")
    debug(folder, LONGER, "learning.decay_updates=6")
    return folder


def test_a_finished_run_goes_on_as_if_it_had_been_longer_and_keeps_its_end(unbroken: Path, tmp_path: Path):
    first, shown = debug(tmp_path, *NINE), []
    sheet = (tmp_path / "run" / "samples.png").read_bytes()
    result = debug(tmp_path, LONGER, *NINE, show=shown.append)
    assert_same(tmp_path, unbroken)
    assert result["swd"] == result_of(unbroken)["swd"] and result["update"] == 10
    assert json.loads((tmp_path / "run" / "result_000006.json").read_text()) == first
    assert (tmp_path / "run" / "samples_000006.png").read_bytes() == sheet
    assert checkpoint.names(Run.open(str(tmp_path / "run")).store) == ["update_000006", "update_000010"]
    said = next(record["event"] for record in shown if "event" in record)
    assert "goes on to 10 updates (it had 6)" in said and "has already fallen to 2 % of its full value" in said
    assert "so the new updates change little" in said and f"--from {tmp_path / 'run'} --name NAME" in said
    assert [r["update"] for r in records_of(tmp_path) if "grids" in r] == list(range(1, 11))


@pytest.mark.parametrize("stop", [7, 10])
def test_a_run_that_is_killed_as_it_goes_on_still_has_its_end_and_goes_on_again(
    unbroken: Path, tmp_path: Path, stop: int
):
    first = debug(tmp_path)
    with pytest.raises(Stopped):
        debug(tmp_path, LONGER, show=stop_after(stop))
    run = Run.open(str(tmp_path / "run"))
    assert result_of(tmp_path) == first and run.result() is None, "it is not finished"
    assert summary_of(run).state == "stopped" and summary_of(run).num_updates == 10
    assert debug(tmp_path, LONGER)["update"] == 10
    assert_same(tmp_path, unbroken)
    assert json.loads((tmp_path / "run" / "result_000006.json").read_text()) == first


def test_a_run_that_was_stopped_may_get_longer_too(unbroken: Path, tmp_path: Path):
    with pytest.raises(Stopped):
        debug(tmp_path, show=stop_after(3))
    debug(tmp_path, LONGER)
    assert_same(tmp_path, unbroken)
    assert not (tmp_path / "run" / "result_000006.json").exists()


@pytest.mark.parametrize("finished", [True, False])
def test_the_command_that_began_a_run_goes_on_with_it_after_it_was_made_longer(
    unbroken: Path, tmp_path: Path, finished: bool
):
    debug(tmp_path)
    debug(tmp_path, "learning.num_updates=8")
    if finished:
        debug(tmp_path, LONGER)
    else:
        with pytest.raises(Stopped):
            debug(tmp_path, LONGER, show=stop_after(9))
    for command in ((), ("learning.num_updates=8",)):
        shown = []
        assert debug(tmp_path, *command, show=shown.append)["update"] == 10
        given = 8 if command else 6
        said = f"was made longer: it has learning.num_updates=10 and keeps that, though this command gives {given}"
        assert [record for record in shown if said in record.get("event", "")]
    assert_same(tmp_path, unbroken)
    with pytest.raises(UserError, match="num_updates=10, which may be raised, but not lowered to 5"):
        debug(tmp_path, "learning.num_updates=5")


def test_a_run_does_not_get_shorter_and_says_how_long_it_is(tmp_path: Path):
    debug(tmp_path)
    with pytest.raises(
        UserError, match="num_updates=6, which may be raised, but not lowered to 5; give learning.num_u"
    ):
        debug(tmp_path, "learning.num_updates=5")


def test_the_course_of_the_rate_cannot_be_changed_afterwards(tmp_path: Path):
    debug(tmp_path)
    with pytest.raises(UserError, match=r"learning.decay_updates \(6 there, 9 now\)"):
        debug(tmp_path, LONGER, "learning.decay_updates=9")
    assert debug(tmp_path, "learning.decay_updates=6")["update"] == 6, "that is what it has"


def test_after_its_course_the_rate_stays_where_it_is():
    method = make_method(tiny_config("learning.num_updates=100", "learning.decay_updates=20", "learning.warmup=5"))
    rates = [rate_factor(update, method) for update in range(100)]
    assert rates[4] == 1.0 and rates[19] == pytest.approx(0.02) and set(rates[19:]) == {rates[19]}
    alone = make_method(tiny_config("learning.num_updates=20", "learning.warmup=5"))
    assert rates[:20] == [rate_factor(update, alone) for update in range(20)]
