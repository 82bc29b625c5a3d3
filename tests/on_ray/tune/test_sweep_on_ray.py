"""A real sweep on a real local Ray that goes on where one was cut; tests/faults/test_killed_sweep.py cuts one for real.

One start of Ray for all tests of this file, for it takes longer than all of its trials.
"""

import json
from pathlib import Path

import pytest
import yaml
from sweep_runs import HEAD, Swept, finish_sweep, is_same_bit_for_bit, start_sweep, train_alone
from tiny_runs import Stopped, records_of, stop_after

from distmgcd.config import load_config
from distmgcd.errors import UserError
from distmgcd.launch import start_run
from distmgcd.runs.listing import summaries
from distmgcd.runs.store import Store
from distmgcd.sweep.file import read_sweep
from distmgcd.sweep.sweep_state import SweepState
from distmgcd.sweep.trial_files import claim

# The third trial diverges at once, for no step is that large; the others take a second each.
TEXT = (
    HEAD.replace("num_steps: 10", "num_steps: 5")
    + """\
objective: {metric: fd, features: pixels}
budget: {updates: 30, evaluations: 3, samples: 16}
search: grid
space: {langevin.step_size: {grid: [0.5, 0.6, 1000.0, 0.7]}}
"""
)
TRIALS = ("trial_0001", "trial_0002", "trial_0003", "trial_0004")


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """`distmgcd tune --resume` where one trial has ended and the next has been cut."""
    folder = tmp_path_factory.mktemp("sweep")
    cut_sweep(folder)
    return finish_sweep(start_sweep(folder, TEXT, "--concurrent", "1", "--resume"), folder)


def cut_sweep(folder: Path) -> None:
    """What a command leaves that was killed in its second trial, after the checkpoint of update 10."""
    (folder / "try.yaml").write_text(TEXT)
    sweep, store = read_sweep(str(folder / "try.yaml")), Store(str(folder / "sweeps" / "try"))
    claim(store, sweep, resume=False)
    sweep_state = SweepState(store, sweep)
    for number, name in ((1, "trial_0001"), (2, "trial_0002")):
        sweep_state.started(number, sweep.point(number), {})
        how = {"storage_path": store.path("trials"), "name": name, "use_gpu": False}
        if number == 1:
            start_run.debug(sweep.config_of(sweep.point(1)), **how)
            sweep_state.ended(1, "finished", "")
        else:
            with pytest.raises(Stopped):
                start_run.debug(sweep.config_of(sweep.point(2)), show=stop_after(20), **how)


def test_every_trial_comes_to_an_end_and_the_command_to_its_own(swept: Swept):
    assert swept.status == 0, swept.err
    assert "Traceback" not in swept.err + swept.out
    states = {name: swept.trial_state(name)["state"] for name in TRIALS}
    assert states == dict.fromkeys(TRIALS, "finished") | {"trial_0003": "diverged"}
    assert "4 trials: 3 finished, 1 diverged." in swept.out


def test_trials_that_had_ended_are_kept(swept: Swept):
    assert "Trials kept that have ended before: 1; that go on: 1." in swept.out
    assert "trial_0001 starts" not in swept.out and "trial_0001 finished" not in swept.out


def test_a_trial_that_was_cut_goes_on_from_its_newest_checkpoint(swept: Swept):
    log = records_of(swept.folder / "trials", "trial_0002")
    assert any("Going on from the checkpoint of update" in record.get("event", "") for record in log)
    assert [record["update"] for record in log if "grids" in record] == list(range(1, 31))


def test_a_trial_that_was_cut_ends_bit_for_bit_where_an_unbroken_run_does(swept: Swept, tmp_path: Path):
    trial = swept.folder / "trials" / "trial_0002"
    train_alone(trial, tmp_path)
    assert is_same_bit_for_bit(trial, tmp_path / "alone")
    ours, theirs = (json.loads((run / "result.json").read_text()) for run in (trial, tmp_path / "alone"))
    assert (ours["swd"], ours["fd"]) == (theirs["swd"], theirs["fd"])


def test_a_trial_that_diverged_says_why_and_is_not_the_best(swept: Swept):
    trial_state = swept.trial_state("trial_0003")
    assert trial_state["reason"].startswith("Grid ") and "diverged at update" in trial_state["reason"]
    assert "trial_0003 diverged" in swept.out and "best           trial_0003" not in swept.out


def test_the_best_is_a_file_that_trains(swept: Swept):
    objectives = {
        name: json.loads((swept.folder / "trials" / name / "result.json").read_text())["fd"]["samples"]["FD-Pixels"]
        for name in TRIALS
        if name != "trial_0003"
    }
    best = min(objectives, key=objectives.__getitem__)
    assert f"best           {best}" in swept.out
    config = load_config(str(swept.folder / "best.yaml"))
    assert config.langevin.step_size == swept.trial_state(best)["knobs"]["langevin.step_size"]
    assert (config.data.validation, config.evaluate.features, config.checkpoint.metric) == (0, "pixels", "fd")
    assert "               FD-Pixels " in swept.out and "FD-Pixels is taken of 16 images" in swept.out
    assert "distmgcd train sweeps/try/best.yaml" in swept.out


def test_trials_are_ordinary_runs(swept: Swept):
    found = {run.name: run.state for run in summaries(str(swept.folder / "trials"))}
    assert found == dict.fromkeys(TRIALS, "finished") | {"trial_0003": "diverged"}


def test_a_sweep_that_has_ended_cannot_be_taken_for_another(swept: Swept, tmp_path: Path):
    from distmgcd.launch import start_sweep

    (tmp_path / "try.yaml").write_text(TEXT.replace("0.7", "0.8"))
    with pytest.raises(UserError, match="holds a different one"):
        start_sweep.tune(str(tmp_path / "try.yaml"), storage_path=str(swept.folder.parent), use_gpu=False)
    (tmp_path / "try.yaml").write_text(TEXT)
    with pytest.raises(UserError, match="exists already, with 4 trials begun; give --resume"):
        start_sweep.tune(str(tmp_path / "try.yaml"), storage_path=str(swept.folder.parent), use_gpu=False)


def test_a_sweep_that_has_ended_is_told_without_starting_ray(swept: Swept, monkeypatch: pytest.MonkeyPatch):
    import ray

    from distmgcd.launch import start_sweep

    monkeypatch.setattr(ray, "init", lambda *_, **__: pytest.fail("Ray is started"))
    (swept.folder / "report.html").unlink()
    sweep = str(swept.folder.parents[1] / "try.yaml")
    found = start_sweep.tune(sweep, storage_path=str(swept.folder.parent), use_gpu=False, resume=True)
    assert len(found) == 4 and found.get_best_result().metrics["state"] == "finished"
    assert (swept.folder / "report.html").exists()


def test_the_whole_sweep_can_be_read_from_its_folder(swept: Swept):
    sweep = read_sweep(str(swept.folder / "sweep.yaml"))
    assert sweep.num_trials == 4 and sweep.point(4) == {"langevin.step_size": 0.7}
    assert yaml.safe_load((swept.folder / "sweep.yaml").read_text())["base"]["langevin"]["num_steps"] == 5


def test_no_process_of_ray_is_left_behind(swept: Swept):
    assert swept.left == {}
