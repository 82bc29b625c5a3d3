"""A run says how it executes its chains, keeps that, and is replayed so, whatever auto is on the machine."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from captured import captured_ends
from tiny_runs import Stopped, debug, log_of, result_of, stop_after, tiny_config

from distmgcd.core.execution import executors
from distmgcd.launch import start_run
from distmgcd.runs import checkpoint
from distmgcd.runs.run_folder import Run
from distmgcd.training.replay.replay_update import replay
from distmgcd.training.speed import change_of_speed, first_line, speed_at

AUTO = ("speed.execution=auto", "speed.precision=auto")
PLAIN = ("speed.execution=plain", "speed.precision=auto")


@pytest.fixture
def plays(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes this CPU one whose auto is bf16, or fp32: it emulates bf16 where it has none."""
    return lambda precision: monkeypatch.setattr(executors, "multiplies_bf16", lambda device: precision == "bf16")


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
    steps, step = [], executors.langevin_step
    monkeypatch.setattr(executors, "langevin_step", lambda *args: steps.append(1) or step(*args))
    config = tiny_config("speed.execution=auto")
    debug(tmp_path, "speed.execution=auto")
    assert steps and Run.open(str(tmp_path / "run")).config().speed == config.speed
    steps.clear()
    for how in ({"plain": False}, {}):  # as a comparison trains; and an execution that is chosen
        name, config = ("here", config) if how else ("chosen", tiny_config("speed.execution=traced"))
        start_run.debug(config, storage_path=str(tmp_path), name=name, use_gpu=False, **how)
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
    found, run = newest(tmp_path), Run.open(str(tmp_path / "run"))
    assert change_of_speed(found, found.speed, run) is None
    assert change_of_speed(found, {**found.speed, "threads": 4, "workers": 2}, run) is None
    changed = change_of_speed(found, {**found.speed, "execution": "captured", "device": "A100"}, run)
    assert changed.startswith("Up to update 6 this run used cpu, traced; here it uses A100, captured. ")


def test_a_checkpoint_of_an_older_version_goes_on_without_a_word_but_for_plain_chains_that_were_in_fp32(tmp_path: Path):
    state = json.dumps({"progress": {"update": 6}, "versions": {}}).encode()
    found = checkpoint.Checkpoint("update_000006", checkpoint.Progress(update=6), {"state.json": state})
    now = {"device": "cpu", "execution": "plain", "precision": "bf16", "threads": 1, "workers": 1}
    auto, plain = Run.at(str(tmp_path), "auto"), Run.at(str(tmp_path), "plain")
    auto.claim(tiny_config(*AUTO))
    plain.claim(tiny_config(*PLAIN))
    assert found.speed == {} and change_of_speed(found, now, auto) is None, "debug has put plain for auto"
    assert "used fp32; here it uses bf16" in change_of_speed(found, now, plain)
    assert change_of_speed(found, {**now, "precision": "fp32"}, plain) is None


def as_an_older_version_left_it(folder: Path) -> None:
    """Neither the log nor a checkpoint says how chains were executed."""
    run = folder / "run"
    log = [line for line in (run / "log" / "metrics.jsonl").read_text().splitlines(True) if '"speed"' not in line]
    (run / "log" / "metrics.jsonl").write_text("".join(log))
    for state in run.glob("checkpoints/*/state.json"):
        content = {key: value for key, value in json.loads(state.read_text()).items() if key != "speed"}
        state.write_text(json.dumps(content))
        checksums = state.with_name("checksums.json")
        sums = json.loads(checksums.read_text()) | {"state.json": hashlib.sha256(state.read_bytes()).hexdigest()}
        checksums.write_text(json.dumps(sums))


def test_debug_tells_no_history_of_an_older_run_that_nobody_knows(tmp_path: Path, plays: Callable):
    plays("bf16")
    debug(tmp_path, *AUTO)
    as_an_older_version_left_it(tmp_path)
    shown = []
    debug(tmp_path, *AUTO, "learning.num_updates=7", show=shown.append)
    assert not [record for record in shown if "this run used" in record.get("event", "")]


@pytest.mark.parametrize("goes_on", [False, True])
def test_a_replay_of_an_older_plain_run_is_in_fp32_though_it_has_gone_on_in_bf16(
    tmp_path: Path, plays: Callable, goes_on: bool
):
    plays("fp32")
    debug(tmp_path, *PLAIN)
    as_an_older_version_left_it(tmp_path)
    plays("bf16")
    if goes_on:
        debug(tmp_path, *PLAIN, "learning.num_updates=7")
    run = Run.open(str(tmp_path / "run"))
    assert speed_at(run, 5) == {"precision": "fp32"}
    assert not goes_on or speed_at(run, 7)["precision"] == "bf16"


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
