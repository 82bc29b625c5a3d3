"""A real sweep on a real local Ray: its command is killed in the middle, and the same command with --resume ends it."""

import json
import os
import signal
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from ray_runs import left_of, wait_until
from sweep_runs import HEAD, Swept, finish_sweep, is_same_bit_for_bit, start_sweep, train_alone
from tiny_runs import records_of

from distmgcd.config import load_config
from distmgcd.errors import UserError
from distmgcd.runs.listing import summaries
from distmgcd.runs.store import Store
from distmgcd.sweep.file import read_sweep
from distmgcd.sweep.notes import read_notes

# The third trial diverges at once, for no step is that large; the others take a few seconds each.
TEXT = (
    HEAD.replace("num_steps: 10", "num_steps: 5")
    + """\
budget: {updates: 60, evaluations: 6, samples: 16}
search: grid
space: {langevin.step_size: {grid: [0.5, 0.6, 1000.0, 0.7]}}
"""
)
TRIALS = ("trial_0001", "trial_0002", "trial_0003", "trial_0004")


class Story(NamedTuple):
    ended_before: list[str]  # trials, when the command was killed
    left: dict[int, str]  # processes of Ray, of the killed command
    swept: Swept  # the same command with --resume


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("sweep")
    trials = folder / "sweeps" / "try" / "trials"
    first = start_sweep(folder, TEXT, "--concurrent", "1")
    try:
        wait_until(lambda: (trials / "trial_0002" / "checkpoints" / "update_000020").exists(), first)
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.communicate()
    left = left_of(first, but="Agent")
    ended = [n.name for n in read_notes(Store(str(folder / "sweeps" / "try"))) if n.state == "finished"]
    second = start_sweep(folder, TEXT, "--concurrent", "1", "--resume")
    return Story(ended, left, finish_sweep(second, folder))


def test_every_trial_comes_to_an_end_and_the_command_to_its_own(story: Story):
    swept = story.swept
    assert swept.status == 0, swept.err
    assert "Traceback" not in swept.err + swept.out
    states = {name: swept.note(name)["state"] for name in TRIALS}
    assert states == dict.fromkeys(TRIALS, "finished") | {"trial_0003": "diverged"}
    assert "4 trials: 3 finished, 1 diverged." in swept.out


def test_trials_that_had_ended_are_kept(story: Story):
    assert story.ended_before == ["trial_0001"]
    assert "Trials kept that have ended before: 1; that go on: 1." in story.swept.out
    assert "trial_0001 starts" not in story.swept.out and "trial_0001 finished" not in story.swept.out


def test_a_trial_that_was_cut_goes_on_from_its_newest_checkpoint(story: Story):
    log = records_of(story.swept.folder / "trials", "trial_0002")
    assert any("Going on from the checkpoint of update" in record.get("event", "") for record in log)
    assert [record["update"] for record in log if "grids" in record] == list(range(1, 61))


def test_a_trial_that_was_cut_ends_bit_for_bit_where_an_unbroken_run_does(story: Story, tmp_path: Path):
    trial = story.swept.folder / "trials" / "trial_0002"
    train_alone(trial, tmp_path)
    assert is_same_bit_for_bit(trial, tmp_path / "alone")
    results = (json.loads((run / "result.json").read_text())["swd"] for run in (trial, tmp_path / "alone"))
    assert next(results) == next(results)


def test_a_trial_that_diverged_says_why_and_is_not_the_best(story: Story):
    note = story.swept.note("trial_0003")
    assert note["reason"].startswith("Grid ") and "diverged at update" in note["reason"]
    assert "trial_0003 diverged" in story.swept.out and "best           trial_0003" not in story.swept.out


def test_the_best_is_a_file_that_trains(story: Story):
    objectives = {
        name: sum(
            json.loads((story.swept.folder / "trials" / name / "result.json").read_text())["swd"]["samples"].values()
        )
        for name in TRIALS
        if name != "trial_0003"
    }
    best = min(objectives, key=objectives.__getitem__)
    assert f"best           {best}" in story.swept.out
    config = load_config(str(story.swept.folder / "best.yaml"))
    assert config.langevin.step_size == story.swept.note(best)["knobs"]["langevin.step_size"]
    assert config.data.validation == 0
    assert "distmgcd train sweeps/try/best.yaml" in story.swept.out


def test_trials_are_ordinary_runs(story: Story):
    found = {run.name: run.state for run in summaries(str(story.swept.folder / "trials"))}
    assert found == dict.fromkeys(TRIALS, "finished") | {"trial_0003": "diverged"}


def test_a_sweep_that_has_ended_cannot_be_taken_for_another(story: Story, tmp_path: Path):
    from distmgcd import tuning

    (tmp_path / "try.yaml").write_text(TEXT.replace("0.7", "0.8"))
    with pytest.raises(UserError, match="holds a different one"):
        tuning.tune(str(tmp_path / "try.yaml"), storage_path=str(story.swept.folder.parent), use_gpu=False)
    (tmp_path / "try.yaml").write_text(TEXT)
    with pytest.raises(UserError, match="exists already, with 4 trials begun; give --resume"):
        tuning.tune(str(tmp_path / "try.yaml"), storage_path=str(story.swept.folder.parent), use_gpu=False)


def test_a_sweep_that_has_ended_is_told_without_starting_ray(story: Story, monkeypatch: pytest.MonkeyPatch):
    import ray

    from distmgcd import tuning

    monkeypatch.setattr(ray, "init", lambda *_, **__: pytest.fail("Ray is started"))
    (story.swept.folder / "report.html").unlink()
    sweep = str(story.swept.folder.parents[1] / "try.yaml")
    found = tuning.tune(sweep, storage_path=str(story.swept.folder.parent), use_gpu=False, resume=True)
    assert len(found) == 4 and found.get_best_result().metrics["state"] == "finished"
    assert (story.swept.folder / "report.html").exists()


def test_the_whole_sweep_can_be_read_from_its_folder(story: Story):
    sweep = read_sweep(str(story.swept.folder / "sweep.yaml"))
    assert sweep.num_trials == 4 and sweep.point(4) == {"langevin.step_size": 0.7}
    assert yaml.safe_load((story.swept.folder / "sweep.yaml").read_text())["base"]["langevin"]["num_steps"] == 5


def test_no_process_of_ray_is_left_behind(story: Story):
    assert story.left == {} and story.swept.left == {}
