"""What is kept of a sweep in its folder, and what is read from there when it goes on."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tiny_runs import TINY

from distmgcd.config import load_config
from distmgcd.errors import UserError
from distmgcd.launch import start_run
from distmgcd.runs.store import Store
from distmgcd.sweep import ranking
from distmgcd.sweep import sweep_state as state_module
from distmgcd.sweep.file import read_sweep
from distmgcd.sweep.plan import Sweep
from distmgcd.sweep.sweep_state import SweepState, reason_of_pruning, seconds_left
from distmgcd.sweep.trial_files import claim, read_trial_states

TEXT = f"""\
base: {TINY}
budget: {{updates: 6, evaluations: 2, samples: 8}}
num_trials: 3
space: {{langevin.step_size: {{uniform: [0.5, 2]}}}}
"""


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    (tmp_path / "try.yaml").write_text(TEXT)
    return read_sweep(str(tmp_path / "try.yaml"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "sweeps" / "try"))


def train(store: Store, sweep: Sweep, number: int) -> dict[str, Any]:
    """A trial's run, without the search."""
    where = {"storage_path": store.path("trials"), "name": f"trial_{number:04d}", "use_gpu": False}
    return start_run.debug(sweep.config_of(sweep.point(number)), **where)


def test_a_name_holds_one_sweep_for_ever(store: Store, sweep: Sweep):
    claim(store, sweep, resume=False)
    with pytest.raises(UserError, match="exists already, with 0 trials begun; give --resume"):
        claim(store, sweep, resume=False)
    claim(store, sweep, resume=True)
    with pytest.raises(UserError, match=r"holds a different one: seed \(0 there, 1 now\)"):
        claim(store, replace(sweep, seed=1), resume=True)


def test_a_sweep_may_go_on_with_more_trials_and_other_workers(store: Store, sweep: Sweep):
    claim(store, sweep, resume=False)
    claim(store, replace(sweep, num_trials=9, workers_per_trial=2), resume=True)
    assert "num_trials: 9" in store.read("sweep.yaml").decode()


@pytest.mark.parametrize(
    ("written", "older"), [("overlap: true", "overlap: true, ahead: false"), (", keep_best: 1", "")]
)
def test_a_sweep_of_a_version_with_other_settings_goes_on(store: Store, sweep: Sweep, written: str, older: str):
    """One that is gone, and one that is new since, which has its default."""
    claim(store, sweep, resume=False)
    text = store.read("sweep.yaml").decode()
    assert text.count(written) == 1, text
    store.write("sweep.yaml", text.replace(written, older).encode())
    claim(store, sweep, resume=True)
    store.write("sweep.yaml", text.replace("keep_best: 1", "keep_best: 2").encode())
    with pytest.raises(UserError, match=r"base.checkpoint.keep_best \(2 there, 1 now\)"):
        claim(store, sweep, resume=True)


def test_a_damaged_sweep_file_is_another_sweep(store: Store, sweep: Sweep):
    store.write("sweep.yaml", b"[]")
    with pytest.raises(UserError, match="holds a different one"):
        claim(store, sweep, resume=True)


def test_ended_trials_are_kept_and_begun_ones_go_on(store: Store, sweep: Sweep):
    told: list[dict[str, Any]] = []
    sweep_state = SweepState(store, sweep, show=told.append)
    for number in (1, 2, 3):
        sweep_state.started(number, sweep.point(number), {})
    result = train(store, sweep, 1)
    sweep_state.ended(1, "finished", "")
    sweep_state.ended(2, "failed", "It failed.")
    again = SweepState(store, sweep)
    assert [trial_state.name for trial_state in again.kept()] == ["trial_0001"]
    assert [trial_state.name for trial_state in again.begun()] == ["trial_0002", "trial_0003"]
    assert [trial.state for trial in again.trials()] == ["finished", "failed", "running"]
    best = ranking.best(again.trials())
    assert best and best.name == "trial_0001" and best.swd == result["swd"]["samples"]
    assert again.trials()[0].parameters == sweep.point(1)
    assert [event["event"] for event in told] == ["started", "started", "started", "finished", "failed"]
    assert told[3]["left_s"] >= 0 and told[3]["best"].name == "trial_0001"


def test_a_sweep_that_has_left_has_no_running_trials_in_its_results(store: Store, sweep: Sweep):
    sweep_state = SweepState(store, sweep)
    for number in (1, 2):
        sweep_state.started(number, sweep.point(number), {})
    train(store, sweep, 1)
    sweep_state.ended(1, "finished", "")
    assert pq.read_table(store.path("results.parquet"))["state"].to_pylist() == ["finished", "running"]
    SweepState(store, sweep).write_results(stopped=True)
    table = pq.read_table(store.path("results.parquet"))
    assert table["state"].to_pylist() == ["finished", "stopped"] and "--resume" in table["reason"].to_pylist()[1]
    assert [trial.state for trial in SweepState(store, sweep).begun()] == ["running"]  # what goes on is as it was


def test_by_fd_the_best_is_the_best_by_fd(store: Store, sweep: Sweep):
    sweep = replace(sweep, objective="fd", features="pixels")
    told: list[dict[str, Any]] = []
    sweep_state = SweepState(store, sweep, show=told.append)
    found = {}
    for number in (1, 2):
        sweep_state.started(number, sweep.point(number), {})
        found[f"trial_{number:04d}"] = train(store, sweep, number)["fd"]["samples"]["FD-Pixels"]
        sweep_state.ended(number, "finished", "")
    best = min(found, key=found.__getitem__)
    shown = told[-1]["best"]
    assert (shown.name, shown.objective) == (best, found[best]) and shown == ranking.best(sweep_state.trials())
    assert load_config(store.path("best.yaml")).checkpoint.metric == "fd"
    reason = reason_of_pruning(sweep, sweep_state.trials(), {"updates": 3, "objective": 12.3456})
    assert f"at FD-Pixels = 12.35; the best so far ended at {found[best]:.4g}." in reason


def test_what_is_said_again_of_a_kept_trial_changes_nothing(store: Store, sweep: Sweep):
    sweep_state = SweepState(store, sweep)
    sweep_state.started(1, sweep.point(1), {})
    sweep_state.ended(1, "diverged", "Grid 8x8 diverged.")
    told: list[dict[str, Any]] = []
    again = SweepState(store, sweep, show=told.append)
    again.started(1, {}, {})
    again.evaluated(1, {"updates": 3})
    again.ended(1, "pruned", "")
    assert told == [] and again.trials()[0].state == "diverged"
    assert read_trial_states(store, sweep.space)[0].reason == "Grid 8x8 diverged."


def test_a_trial_that_was_cut_short_is_the_best_only_until_one_has_ended(store: Store, sweep: Sweep):
    told: list[dict[str, Any]] = []
    sweep_state = SweepState(store, sweep, show=told.append)
    for number, state in ((1, "pruned"), (2, "diverged"), (3, "finished")):
        sweep_state.started(number, sweep.point(number), {})
        train(store, sweep, number)
        sweep_state.ended(number, state, "")
        assert f"{told[-1]['best'].name}, the best of {number} trials" in store.read("best.yaml").decode()
    assert [event["best"].name for event in told if "best" in event] == ["trial_0001", "trial_0001", "trial_0003"]


DAMAGED = [
    b'{"name": ',
    b"null",
    b"[]",
    b'{"name": "trial_0001", "state": "done"}',
    b'{"name": "x", "state": "running"}',
]


@pytest.mark.parametrize("trial_state", DAMAGED)
def test_a_trial_without_a_readable_file_and_without_a_run_has_not_begun(
    store: Store, sweep: Sweep, trial_state: bytes
):
    SweepState(store, sweep).started(1, {}, {})
    store.write("trials/trial_0001/trial.json", trial_state)
    assert SweepState(store, sweep).begun() == []


@pytest.mark.parametrize("trial_state", [None, b'{"name": '])
def test_a_trial_whose_file_is_lost_goes_on_with_the_parameters_of_its_run(
    store: Store, sweep: Sweep, trial_state: bytes | None
):
    sweep_state = SweepState(store, sweep)
    for number in (1, 2):
        sweep_state.started(number, sweep.point(number), {})
        train(store, sweep, number)
        sweep_state.ended(number, "finished", "")
    store.delete("trials/trial_0002/trial.json") if trial_state is None else store.write(
        "trials/trial_0002/trial.json", trial_state
    )
    told: list[dict[str, Any]] = []
    again = SweepState(store, sweep, show=told.append)
    again.show_kept()
    (lost,) = again.begun()
    assert (lost.name, lost.parameters, lost.run) == ("trial_0002", sweep.point(2), "trial_0002")
    assert [event["event"] for event in told] == ["kept", "warning"]
    assert told[1]["text"] == (
        f"The file {store.path('trials/trial_0002/trial.json')} is lost or damaged; trial_0002 goes on from its newest "
        "checkpoint."
    )
    again.write_results()
    assert not again.all_ended()


def test_of_a_lost_file_of_a_population_the_last_stretch_is_known(store: Store, sweep: Sweep):
    train(store, sweep, 1)
    other = sweep.config_of({"langevin.step_size": 1.25})
    start_run.debug(other, storage_path=store.path("trials"), name="trial_0001.2", use_gpu=False)
    (lost,) = SweepState(store, sweep).begun()
    assert (lost.name, lost.run, lost.parameters) == ("trial_0001", "trial_0001.2", {"langevin.step_size": 1.25})


def test_a_sweep_has_ended_when_all_of_its_trials_have(store: Store, sweep: Sweep):
    sweep_state = SweepState(store, sweep)
    for number in (1, 2, 3):
        assert not sweep_state.all_ended()
        sweep_state.started(number, sweep.point(number), {})
        sweep_state.ended(number, "pruned", "")
    assert sweep_state.all_ended() and not SweepState(store, replace(sweep, num_trials=4)).all_ended()


def test_every_failure_is_told_and_kept(store: Store, sweep: Sweep):
    told: list[dict[str, Any]] = []
    sweep_state = SweepState(store, sweep, show=told.append)
    for why in ("Its process 7 died.", "Its process 8 died."):
        sweep_state.started(1, {}, {})
        sweep_state.failed(1, why)
    assert [event["event"] for event in told] == ["started", "again", "again"]
    sweep_state.ended(1, "failed", "")
    (trial,) = SweepState(store, sweep).trials()
    assert trial.failures == ("Its process 7 died.", "Its process 8 died.")


def test_a_trial_that_goes_on_from_another_is_another_run(store: Store, sweep: Sweep):
    sweep_state = SweepState(store, sweep)
    sweep_state.started(1, {"langevin.step_size": 1.0}, {})
    start = {"run": "trial_0002", "update": 3}
    sweep_state.moved(1, parameters={"langevin.step_size": 1.25}, run="trial_0001.2", start=start)
    (trial_state,) = read_trial_states(store, sweep.space)
    assert (trial_state.parameters, trial_state.run, trial_state.start) == (
        {"langevin.step_size": 1.25},
        "trial_0001.2",
        start,
    )
    assert sweep_state.trials()[0].run == store.path("trials/trial_0001.2")


def test_results_that_cannot_be_written_do_not_end_the_search(store: Store, sweep: Sweep, monkeypatch):
    def broken(*_: object) -> None:
        raise ValueError("no room")

    monkeypatch.setattr(state_module, "write_results", broken)
    told: list[dict[str, Any]] = []
    sweep_state = SweepState(store, sweep, show=told.append)
    sweep_state.started(1, {}, {})
    sweep_state.ended(1, "failed", "")
    assert told[-1] == {"event": "warning", "text": "The results could not be written yet (no room)."}
    with pytest.raises(ValueError):
        sweep_state.write_results()


@pytest.mark.parametrize(
    ("took", "running", "num_waiting", "concurrent", "left"),
    [
        ([], [5.0], 9, 2, None),
        ([100.0, 20.0], [], 0, 2, 0.0),
        ([100.0], [], 6, 2, 300.0),
        ([100.0, 20.0], [], 6, 2, 180.0),  # pruned trials are part of what is to be expected
        ([100.0], [40.0], 0, 4, 60.0),  # one trial, on one of four places
        ([100.0], [40.0, 250.0], 0, 2, 60.0),  # the second one takes longer than usual
        ([100.0], [90.0, 90.0], 1, 2, 100.0),
    ],
)
def test_running_trials_take_what_is_left_of_them(took, running, num_waiting: int, concurrent: int, left):
    assert seconds_left(took, running, num_waiting=num_waiting, concurrent=concurrent) == left
