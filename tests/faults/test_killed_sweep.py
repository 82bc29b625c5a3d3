"""The command of a sweep is killed in the middle, and the same command with --resume ends it."""

import json
import os
import signal
from pathlib import Path

import pytest
from ray_runs import left_of, wait_until
from sweep_runs import HEAD, finish_sweep, is_same_bit_for_bit, start_sweep, train_alone
from tiny_runs import records_of

from distmgcd.runs.store import Store
from distmgcd.sweep.write_results import write_report

pytestmark = pytest.mark.slow

TEXT = (
    HEAD.replace("num_steps: 10", "num_steps: 5")
    + """\
budget: {updates: 60, evaluations: 6, samples: 16}
search: grid
space: {langevin.step_size: {grid: [0.5, 0.6, 1000.0, 0.7]}}
"""
)


def test_a_sweep_whose_command_is_killed_is_ended_by_the_same_command_with_resume(tmp_path: Path):
    folder = tmp_path / "sweeps" / "try"
    first = start_sweep(tmp_path, TEXT, "--concurrent", "1")
    try:
        wait_until(lambda: (folder / "trials" / "trial_0002" / "checkpoints" / "update_000020").exists(), first)
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.communicate()
    assert left_of(first, but="Agent") == {}
    files = [folder / "trials" / name / "trial.json" for name in ("trial_0001", "trial_0002")]
    assert [json.loads(file.read_text())["state"] for file in files] == ["finished", "running"]
    reported = {trial.name: (trial.state, trial.updates) for trial in write_report(Store(str(folder))).trials}
    assert reported["trial_0001"] == ("finished", 60)
    assert reported["trial_0002"][0] == "stopped" and reported["trial_0002"][1] >= 20
    swept = finish_sweep(start_sweep(tmp_path, TEXT, "--concurrent", "1", "--resume"), tmp_path)
    assert (swept.status, swept.left) == (0, {}), swept.err
    assert "Trials kept that have ended before: 1; that go on: 1." in swept.out
    assert "trial_0001 starts" not in swept.out and "4 trials: 3 finished, 1 diverged." in swept.out
    log = records_of(folder / "trials", "trial_0002")
    assert any("Going on from the checkpoint of update" in record.get("event", "") for record in log)
    assert [record["update"] for record in log if "grids" in record] == list(range(1, 61))
    train_alone(folder / "trials" / "trial_0002", tmp_path)
    assert is_same_bit_for_bit(folder / "trials" / "trial_0002", tmp_path / "alone")
