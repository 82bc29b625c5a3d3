"""A run that is asked to stop saves where it is, and goes on from there bit for bit."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_runs import TINY, debug, records_of, state_of, tiny_config

from distmgcd.launch import start_run
from distmgcd.models import sampling
from distmgcd.training import results
from distmgcd.workers.control import Control
from distmgcd.workers.stop import Request, Stopped, StopSignals

CHANGES = ("learning.num_updates=9", "checkpoint.every=4", "log.every=3")


def stop_at(folder: Path, update: int) -> Stopped:
    """Train until an update is about to begin, then ask for a stop."""
    asked = iter(range(100))
    with pytest.raises(Stopped) as stopped:
        start_run.debug(
            tiny_config(*CHANGES),
            storage_path=str(folder),
            name="run",
            use_gpu=False,
            stop=lambda: next(asked) == update,
        )
    return stopped.value


@pytest.mark.parametrize("update", [0, 1, 4, 5, 8])
def test_a_stopped_run_ends_where_the_unbroken_one_ends(tmp_path: Path, update: int):
    assert stop_at(tmp_path, update).update == update
    shown = []
    debug(tmp_path, *CHANGES, show=shown.append)
    debug(tmp_path, *CHANGES, name="unbroken")
    ours, theirs = state_of(tmp_path), state_of(tmp_path, "unbroken")
    assert not [name for name, value in theirs.items() if not torch.equal(ours[name], value)]
    if update:
        events = [r["event"] for r in shown if "event" in r and "speed" not in r]
        assert events[0] == f"Going on from the checkpoint of update {update}."
    assert records_of(tmp_path)[-2]["update"] == 9


def test_a_run_that_is_stopped_in_its_last_evaluation_only_evaluates_when_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    draws = []
    monkeypatch.setattr(
        results, "fresh_samples", lambda *args, **kw: draws.append(1) or sampling.fresh_samples(*args, **kw)
    )
    with pytest.raises(Stopped, match="Stopped at update 9 and saved it"):
        start_run.debug(
            tiny_config(*CHANGES), storage_path=str(tmp_path), name="run", use_gpu=False, stop=lambda: len(draws) == 2
        )
    assert len(draws) == 2 and not (tmp_path / "run" / "result.json").exists()
    logged = (tmp_path / "run" / "log" / "metrics.jsonl").read_text()
    stopped = debug(tmp_path, *CHANGES)
    monkeypatch.undo()
    assert stopped["swd"] == debug(tmp_path, *CHANGES, name="unbroken")["swd"]
    again = (tmp_path / "run" / "log" / "metrics.jsonl").read_text().removeprefix(logged)
    assert "Going on from the checkpoint of update 9." in again and "grids" not in again


def test_a_run_that_is_stopped_in_an_evaluation_on_its_way_saves_and_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    draws = []
    monkeypatch.setattr(
        results, "fresh_samples", lambda *args, **kw: draws.append(1) or sampling.fresh_samples(*args, **kw)
    )
    with pytest.raises(Stopped, match="Stopped at update 3 and saved it"):
        start_run.debug(
            tiny_config(*CHANGES, "evaluate.every=3"),
            storage_path=str(tmp_path),
            name="run",
            use_gpu=False,
            stop=lambda: len(draws) == 1,
        )
    assert len(draws) == 1


def test_a_request_to_save_is_handled_once_and_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        Control, "before_update", lambda _, update, wish: Request.SAVE if update == 5 else Request.CONTINUE
    )
    assert debug(tmp_path, *CHANGES)["update"] == 9
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert names == ["update_000005", "update_000008", "update_000009"]  # of the newest three


def test_the_first_signal_is_a_request_and_the_second_ends_at_once():
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals() as stop:
        assert not stop()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop() and stop.status == 143
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
            signal.sigtimedwait([], 1)
    assert signal.getsignal(signal.SIGTERM) is before


def test_debug_mode_answers_sigterm(tmp_path: Path):
    process = subprocess.Popen(
        [sys.executable, "-m", "distmgcd.cli", "debug", str(TINY), "learning.num_updates=100000", "--name", "run"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while " left  update " not in process.stdout.readline():  # the first record
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert (
        err
        == f"distmgcd: Stopped at update {max_update(tmp_path)} and saved it; the same command goes on from there.\n"
    )


def test_a_signal_while_torch_is_loading_is_answered_as_any_other(tmp_path: Path):
    process = subprocess.Popen(
        [sys.executable, "-m", "distmgcd.cli", "debug", str(TINY), "learning.num_updates=100000", "--name", "run"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline().startswith("Run runs/run: ")
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143 and err.startswith("distmgcd: Stopped ")


def max_update(folder: Path) -> int:
    return max(int(path.name.removeprefix("update_")) for path in (folder / "runs" / "run" / "checkpoints").iterdir())
