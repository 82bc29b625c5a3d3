"""A trial, read from the folder of its run."""

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import Stopped, debug, result_of, stop_after

from distmgcd.sweep.read_trial import history_of, trial_of
from distmgcd.training.divergence import Diverged

PARAMETERS = {"langevin.num_steps": 2, "langevin.step_size": (1.0, 2.0)}
TINY_TRIAL = ("langevin.step_size=[1.0,2.0]", "evaluate.every=3")


def test_a_finished_run_is_read_with_its_distances_cost_and_history(tmp_path: Path):
    debug(tmp_path, *TINY_TRIAL)
    trial, result = trial_of(str(tmp_path / "run"), parameters=PARAMETERS), result_of(tmp_path)
    assert (trial.name, trial.state, trial.reason, trial.run) == ("run", "finished", "", str(tmp_path / "run"))
    assert trial.parameters == {"langevin.num_steps": 2, "langevin.step_size": [1.0, 2.0]}
    assert (trial.swd, trial.swd_spread) == (result["swd"]["samples"], result["swd_spread"]["samples"])
    assert trial.objective == pytest.approx(sum(trial.swd.values()) / 2)
    assert (trial.gradient_evaluations, trial.updates, trial.seconds) == (4, 6, result["seconds"])
    assert [update for update, _ in trial.history] == [3, 6] and trial.history[-1][1] == trial.objective
    assert trial.images_per_s > 0


def test_the_objective_may_be_the_distance_of_one_grid(tmp_path: Path):
    debug(tmp_path, *TINY_TRIAL)
    trial = trial_of(str(tmp_path / "run"), parameters=PARAMETERS, objective="swd/8")
    assert trial.objective == trial.swd["8"] == trial.history[-1][1]


def test_the_objective_may_be_the_frechet_distance(tmp_path: Path):
    debug(tmp_path, *TINY_TRIAL, "evaluate.features=pixels")
    trial, result = trial_of(str(tmp_path / "run"), parameters=PARAMETERS, objective="fd"), result_of(tmp_path)
    assert (trial.fd, trial.fd_spread) == (result["fd"]["samples"], result["fd_spread"]["samples"])
    assert trial.objective == trial.fd["FD-Pixels"] == trial.history[-1][1] and trial.swd == result["swd"]["samples"]
    assert [update for update, _ in trial.history] == [3, 6]
    (tmp_path / "run" / "result.json").unlink()
    on_its_way = trial_of(str(tmp_path / "run"), parameters=PARAMETERS, objective="fd", state="running")
    assert (on_its_way.objective, on_its_way.fd_spread) == (trial.objective, trial.fd_spread)


def test_a_diverged_run_says_why(tmp_path: Path):
    with pytest.raises(Diverged) as event:
        debug(tmp_path, "watch.max_drift=1e-9", "watch.max_retries=0")
    trial = trial_of(str(tmp_path / "run"), parameters={})
    assert (trial.state, trial.reason, trial.objective) == ("diverged", str(event.value), None)


def test_a_run_that_stopped_has_failed_unless_the_search_knows_better(tmp_path: Path):
    with pytest.raises(Stopped):
        debug(tmp_path, *TINY_TRIAL, show=stop_after(4))
    run = str(tmp_path / "run")
    trial = trial_of(run, parameters={})
    assert (trial.state, trial.reason, trial.updates) == ("failed", "It stopped at update 4 of 6.", 4)
    assert trial.objective == trial.history[-1][1] and trial.seconds > 0
    pruned = trial_of(run, parameters={}, state="pruned", reason="Others were better at update 3.")
    assert (pruned.state, pruned.reason, pruned.objective) == (
        "pruned",
        "Others were better at update 3.",
        trial.objective,
    )


def test_a_run_that_has_not_begun_is_waiting_and_a_damaged_one_has_failed(tmp_path: Path):
    assert trial_of(str(tmp_path / "run"), parameters={}).state == "waiting"
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("grids: [")
    trial = trial_of(str(tmp_path / "run"), parameters={})
    assert trial.state == "failed" and "damaged" in trial.reason


def test_history_leaves_out_what_a_run_went_back_from():
    records: list[dict[str, Any]] = [
        {"update": 10, "swd": {"4": 0.5}},
        {"update": 20, "swd": {"4": 0.9}},
        {"update": 10, "event": "Grid 4x4 diverged. Going back.", "rate_scale": 0.5},
        {"update": 20, "swd": {"4": 0.3}},
    ]
    assert history_of(records, "swd") == ((10, 0.5), (20, 0.3))
    assert history_of(records[:3], "swd") == ((10, 0.5),)


def test_the_last_line_of_a_process_that_was_killed_is_passed_over(tmp_path: Path):
    debug(tmp_path, *TINY_TRIAL)
    before = trial_of(str(tmp_path / "run"), parameters={})
    with (tmp_path / "run" / "log" / "metrics.jsonl").open("a") as log:
        log.write(json.dumps({"update": 6, "swd": {"2": 1.0, "8": 1.0}})[:20])
    assert trial_of(str(tmp_path / "run"), parameters={}) == before
