"""A run says how it executes its chains, keeps that, and is replayed so, whatever auto is on the machine."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_runs import Stopped, debug, log_of, result_of, stop_after, tiny_config

from distmgcd import launch
from distmgcd.core import fast
from distmgcd.runs import checkpoint
from distmgcd.runs.run import Run
from distmgcd.training.replay import replay
from distmgcd.training.speed import change_of_speed, first_line

sys.path.insert(0, str(Path(__file__).parent))
from captured import captured_ends  # noqa: E402

AUTO = ("speed.execution=auto", "speed.precision=auto")


@pytest.fixture
def plays(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes this CPU one whose auto is bf16, or fp32: it emulates bf16 where it has none."""
    return lambda precision: monkeypatch.setattr(fast, "multiplies_bf16", lambda device: precision == "bf16")


def newest(folder: Path, name: str = "run") -> checkpoint.Checkpoint:
    return checkpoint.newest(Run.open(str(folder / name)).store)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_says_what_it_uses_as_its_first_line_and_keeps_it(tmp_path: Path, plays: Callable, precision: str):
    plays(precision)
    shown = []
    debug(tmp_path, *AUTO, show=shown.append)
    speed = {"device": "cpu", "execution": "plain", "precision": precision, "threads": 1, "workers": 1}
    logged = [record for record in shown if "start" not in record]
    assert logged[0] == log_of(tmp_path)[0]
    assert logged[0] == {
        "update": 0,
        "event": f"Training on 1 worker: cpu, plain execution, chains in {precision}, 1 thread.",
        "speed": speed,
    }
    assert result_of(tmp_path)["speed"] == newest(tmp_path).speed == speed


def test_the_line_fits_80_columns():
    speed = {"device": "cpu", "execution": "compiled", "precision": "bf16", "threads": 16, "workers": 16}
    line = first_line(speed)
    assert line == "Training on 16 workers: cpu, compiled execution, chains in bf16, 16 threads each."
    assert len(first_line({**speed, "execution": "traced"})) <= 80 and "threads" not in first_line(
        {**speed, "device": "NVIDIA H100 80GB HBM3"}
    )


# Debug mode


def test_debug_takes_plain_execution_and_train_goes_on_with_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    steps, step = [], fast.langevin_step
    monkeypatch.setattr(fast, "langevin_step", lambda *args: steps.append(1) or step(*args))
    config = tiny_config("speed.execution=auto")
    debug(tmp_path, "speed.execution=auto")
    assert steps and Run.open(str(tmp_path / "run")).config().speed == config.speed
    steps.clear()
    for how in ({"plain": False}, {}):  # as a comparison trains; and an execution that is chosen
        name, config = ("here", config) if how else ("chosen", tiny_config("speed.execution=traced"))
        launch.debug(config, storage_path=str(tmp_path), name=name, use_gpu=False, **how)
        assert result_of(tmp_path, name)["speed"]["execution"] == "traced"
    assert not steps


# Other machines


@pytest.mark.parametrize(("before", "after"), [("fp32", "bf16"), ("bf16", "fp32")])
def test_a_run_that_goes_on_where_auto_is_another_says_so(tmp_path: Path, plays: Callable, before: str, after: str):
    plays(before)
    with pytest.raises(Stopped):
        debug(tmp_path, *AUTO, show=stop_after(3))
    plays(after)
    shown = []
    debug(tmp_path, *AUTO, show=shown.append)
    first, second, *_ = (record for record in shown if "start" not in record)
    assert first["speed"]["precision"] == after
    assert second["event"] == (
        f"Up to update 2 this run used {before}; here it uses {after}. It goes on, equal up to rounding, not bit for "
        "bit."
    )
    assert newest(tmp_path).speed["precision"] == result_of(tmp_path)["speed"]["precision"] == after


def test_what_is_told_of_a_change_and_when(tmp_path: Path):
    debug(tmp_path)
    found, config = newest(tmp_path), tiny_config()
    assert change_of_speed(found, found.speed, config) is None
    assert change_of_speed(found, {**found.speed, "threads": 4, "workers": 2}, config) is None
    changed = change_of_speed(found, {**found.speed, "execution": "captured", "device": "A100"}, config)
    assert changed.startswith("Up to update 6 this run used cpu, traced; here it uses A100, captured. ")


def test_a_checkpoint_of_an_older_version_goes_on_without_a_word_but_for_plain_chains_that_were_in_fp32(tmp_path: Path):
    state = json.dumps({"progress": {"update": 6}, "versions": {}}).encode()
    found = checkpoint.Checkpoint("update_000006", checkpoint.Progress(update=6), {"state.json": state})
    now = {"device": "cpu", "execution": "plain", "precision": "bf16", "threads": 1, "workers": 1}
    assert found.speed == {} and change_of_speed(found, {**now, "execution": "traced"}, tiny_config(*AUTO)) is None
    plain = tiny_config("speed.execution=plain", "speed.precision=auto")
    assert "used fp32; here it uses bf16" in change_of_speed(found, now, plain)
    assert change_of_speed(found, {**now, "precision": "fp32"}, plain) is None


@pytest.mark.parametrize(("of_run", "here"), [("fp32", "bf16"), ("bf16", "fp32")])
def test_a_replay_uses_the_precision_of_the_run(tmp_path: Path, plays: Callable, of_run: str, here: str):
    plays(of_run)
    with captured_ends() as ends:
        debug(tmp_path, *AUTO)
    plays(here)
    found = replay(str(tmp_path / "run"), update=4, images="all", device="cpu")
    assert all(torch.equal(grid.pictures[-1], x) for grid, x in zip(found.grids, ends[4][0][1], strict=True))


@pytest.mark.parametrize("gone", ["log", "log and checkpoints"])
def test_a_replay_asks_the_log_then_the_checkpoints_and_says_if_neither_knows(
    tmp_path: Path, plays: Callable, gone: str
):
    plays("bf16")
    with captured_ends() as ends:
        debug(tmp_path, *AUTO)
    (tmp_path / "run" / "log" / "metrics.jsonl").unlink()
    if "checkpoints" in gone:
        for folder in (tmp_path / "run" / "checkpoints").iterdir():
            (folder / "model.safetensors").write_bytes(b"")
    plays("fp32")
    found = replay(str(tmp_path / "run"), update=1, images="all", device="cpu")
    same = all(torch.equal(grid.pictures[-1], x) for grid, x in zip(found.grids, ends[1][0][1], strict=True))
    unknown = [note for note in found.notes if "does not say in which precision" in note]
    assert same == (gone == "log") and len(unknown) == (gone != "log")
    assert not unknown or "in fp32, which is auto here" in unknown[0]
