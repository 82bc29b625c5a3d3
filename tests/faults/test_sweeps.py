"""Sweeps for real: trials that lose their process, are pruned, have workers of their own, or go on from each other."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from ray_runs import wait_until
from sweep_runs import HEAD, Swept, finish_sweep, is_same_bit_for_bit, process_of, start_sweep, train_alone
from tiny_runs import records_of, state_of

from distmgcd.runs import checkpoint
from distmgcd.runs.run_folder import Run
from distmgcd.runs.store import Store
from distmgcd.training.verify import verify

pytestmark = pytest.mark.slow


def sweep_of(folder: Path, text: str, *arguments: str) -> Swept:
    swept = finish_sweep(start_sweep(folder, text, *arguments), folder)
    assert swept.status == 0, swept.err
    assert "Traceback" not in swept.out + swept.err and swept.left == {}
    return swept


def test_a_killed_trial_goes_on_and_others_are_pruned_with_their_reason(tmp_path: Path):
    """The first trial, the good one, is killed; the rest come later and are worse, so asha stops them."""
    steps = "{grid: [0.5, 2.0, 2.5]}"
    text = HEAD + (
        "budget: {updates: 90, evaluations: 9, samples: 64}\nscheduler: asha\nsearch: grid\n"
        f"space: {{langevin.step_size: {steps}}}\n"
    )
    process = start_sweep(tmp_path, text, "--concurrent", "1")
    trials = tmp_path / "sweeps" / "try" / "trials"
    try:
        wait_until(lambda: (trials / "trial_0001" / "checkpoints" / "update_000020").exists(), process)
        killed = process_of(trials / "trial_0001")
        os.kill(killed, signal.SIGKILL)
    except BaseException:
        process.kill()
        raise
    swept = finish_sweep(process, tmp_path)
    assert swept.status == 0 and swept.left == {}, swept.err
    (why,) = swept.trial_state("trial_0001")["failures"]
    assert why == f"Its process {killed} died."
    assert f"trial_0001 goes on from its newest checkpoint: {why}" in swept.out
    assert f"One failure that a trial went on after: {why}" in swept.out
    train_alone(trials / "trial_0001", tmp_path)
    assert is_same_bit_for_bit(trials / "trial_0001", tmp_path / "alone")
    assert [swept.trial_state(f"trial_000{n}")["state"] for n in (1, 2, 3)] == ["finished", "pruned", "pruned"]
    for name in ("trial_0002", "trial_0003"):
        last = [record for record in records_of(trials, name) if "swd" in record][-1]["update"]
        assert f"asha stopped it after {last} of 90 updates, at 1000 x swd = " in swept.trial_state(name)["reason"]
        assert checkpoint.names(Store(str(trials / name)))[-1] == checkpoint.name_of(last)
        assert not [found for found in verify(str(trials / name)) if found.damage]


def test_trials_with_workers_find_what_trials_without_find(tmp_path: Path):
    """Bit for bit, for they walk and add in blocks; two workers of one thread each."""
    text = HEAD.replace("langevin.num_steps: 10", "langevin.num_steps: 2, learning.block_size: 16") + (
        "budget: {updates: 12, evaluations: 3, samples: 64}\nscheduler: asha\nnum_trials: 2\n"
        "space: {langevin.step_size: {loguniform: [0.3, 1]}}\n"
    )
    swept = {}
    for workers in (0, 1, 2):
        (folder := tmp_path / str(workers)).mkdir()
        swept[workers] = sweep_of(folder, text, "--workers-per-trial", str(workers), "--concurrent", "1")
    for workers in (1, 2):
        ours, theirs = (swept[n].folder / "trials" / "trial_0001" for n in (workers, 0))
        assert is_same_bit_for_bit(ours, theirs), workers
        assert [r["swd"] for r in records_of(ours.parent, ours.name) if "swd" in r] == [
            r["swd"] for r in records_of(theirs.parent, theirs.name) if "swd" in r
        ]
        assert [swept[workers].trial_state(f"trial_000{n}")["state"] for n in (1, 2)] == [
            swept[0].trial_state(f"trial_000{n}")["state"] for n in (1, 2)
        ]


@pytest.mark.parametrize(
    ("steps", "how"),
    [
        ([0.5, 0.6, 2.5, 3.0], ("--concurrent", "2")),  # four trials take turns on two CPUs
        ([0.5, 2.5], ("--workers-per-trial", "2")),  # a Ray Train run for every stretch of a trial
    ],
    ids=["by themselves", "with workers"],
)
def test_in_a_population_the_worst_go_on_from_the_best(tmp_path: Path, steps: list[float], how: tuple[str, ...]):
    """Half of the step sizes are hopeless, so somebody must go on from somebody else."""
    text = HEAD + (
        "budget: {updates: 60, evaluations: 6, samples: 64}\nscheduler: {kind: pbt, every: 2, quantile: 0.5}\n"
        f"num_trials: {len(steps)}\nspace: {{langevin.step_size: {{grid: {steps}}}}}\n"
    )
    swept = sweep_of(tmp_path, text, *how)
    trials = swept.folder / "trials"
    trial_states = [swept.trial_state(f"trial_000{number}") for number, _ in enumerate(steps, start=1)]
    moved = [trial_state for trial_state in trial_states if trial_state["start"]]
    assert moved and all(trial_state["state"] == "finished" for trial_state in trial_states)
    assert swept.err == ""  # no advice of Ray's
    for trial_state in moved:
        run, start = trial_state["run"], trial_state["start"]
        assert Run.open(str(trials / run)).config().langevin.step_size == trial_state["knobs"]["langevin.step_size"]
        name = checkpoint.name_of(start["update"])
        ours, theirs = (state_of(trials, folder, checkpoint_name=name) for folder in (run, start["run"]))
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
        assert f"goes on from {start['run']}, update {start['update']}, with" in swept.out
        log = [r["update"] for r in records_of(trials, run) if "grids" in r]
        assert log == list(range(1, 61)) and json.loads((trials / run / "result.json").read_text())["update"] == 60
        assert not [found for found in verify(str(trials / run)) if found.damage]


def test_from_python_a_sweep_gives_rays_result_grid(tmp_path: Path):
    text = HEAD + "budget: {updates: 12, evaluations: 3, samples: 32}\nnum_trials: 2\n"
    (tmp_path / "try.yaml").write_text(text + "space: {langevin.step_size: {grid: [0.5, 1000.0]}}\n")
    code = """
        import distmgcd
        found = distmgcd.tune("try.yaml", use_gpu=False)
        best = found.get_best_result()
        print(type(found).__name__, len(found), found.num_errors, best.config["trial"]["parameters"])
        print(sorted(found.get_dataframe()["state"]), [best.metrics[k] for k in ("updates", "gradient_evaluations")])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.stdout.splitlines() == [
        "ResultGrid 2 0 {'langevin.step_size': 0.5}",
        "['diverged', 'finished'] [12, 20]",
    ], done.stderr
