"""The report of a sweep, whatever became of its command, from the folders of its trials alone."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tiny_runs import TINY, Stopped, stop_after

from distmgcd.errors import UserError
from distmgcd.launch import start_run
from distmgcd.runs import lock
from distmgcd.runs.store import Store
from distmgcd.sweep.file import read_sweep
from distmgcd.sweep.plan import Sweep
from distmgcd.sweep.sweep_state import SweepState
from distmgcd.sweep.trial_files import claim, sweep_of
from distmgcd.sweep.write_results import write_report

TEXT = f"""\
base: {TINY}
budget: {{updates: 6, evaluations: 3, samples: 8}}
num_trials: 3
space: {{langevin.step_size: {{uniform: [0.5, 2]}}}}
"""
WORDS = "The sweep was stopped or killed; this trial goes on with --resume."


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    (tmp_path / "try.yaml").write_text(TEXT)
    return read_sweep(str(tmp_path / "try.yaml"))


@pytest.fixture
def sweep_state(tmp_path: Path, sweep: Sweep) -> SweepState:
    store = Store(str(tmp_path / "sweeps" / "mine"))
    claim(store, sweep, resume=False)
    return SweepState(store, sweep)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "sweeps" / "mine"))


def begin(sweep_state: SweepState, store: Store, sweep: Sweep, number: int) -> None:
    """A trial that is killed after its first evaluation."""
    sweep_state.started(number, sweep.point(number), {})
    where = {"storage_path": store.path("trials"), "name": f"trial_{number:04d}", "use_gpu": False}
    with pytest.raises(Stopped):
        start_run.debug(sweep.config_of(sweep.point(number)), **where, show=stop_after(3))


def finish(sweep_state: SweepState, store: Store, sweep: Sweep, number: int) -> None:
    sweep_state.started(number, sweep.point(number), {})
    where = {"storage_path": store.path("trials"), "name": f"trial_{number:04d}", "use_gpu": False}
    start_run.debug(sweep.config_of(sweep.point(number)), **where)
    sweep_state.ended(number, "finished", "")


def states_in_table(store: Store) -> list[tuple[str, int]]:
    """(state, updates) of every row of results.parquet."""
    table = pq.read_table(store.path("results.parquet"))
    return list(zip(table["state"].to_pylist(), table["updates"].to_pylist(), strict=True))


def test_all_that_trials_have_come_to_is_reported(sweep_state: SweepState, store: Store, sweep: Sweep):
    sweep_state.started(2, sweep.point(2), {})
    finish(sweep_state, store, sweep, 1)
    assert states_in_table(store) == [("finished", 6), ("running", 0)]
    begin(sweep_state, store, sweep, 2)
    begin(sweep_state, store, sweep, 3)
    with lock.locked(store):
        assert [trial.state for trial in write_report(store).trials] == ["finished", "running", "running"]
    assert states_in_table(store) == [("finished", 6), ("running", 0)]  # which the sweep's own command writes
    for _ in range(2):
        found = write_report(store)
        first, *others = found.trials
        assert (first.name, first.state, first.updates) == ("trial_0001", "finished", 6) and found.best == first
        assert {(trial.name, trial.state, trial.reason, trial.updates) for trial in others} == {
            ("trial_0002", "stopped", WORDS, 3),
            ("trial_0003", "stopped", WORDS, 3),
        }
        assert all(trial.objective is not None and len(trial.history) == 1 for trial in others)
        store.write("results.parquet", b"nobody reads this")
    assert write_report(store).trials == found.trials and states_in_table(store)[1:] == [("stopped", 3)] * 2
    assert (found.sweep.name, found.sweep.base_name, found.sweep.base) == ("mine", str(TINY), sweep.base)
    assert "3 trials: 1 finished, 2 stopped." in store.read("report.html").decode()


def test_a_sweep_that_was_killed_before_any_trial_ended_has_a_report(
    sweep_state: SweepState, store: Store, sweep: Sweep, command
):
    status, _, err = command("report", store.location)
    assert status == 2 and err.count("\n") == 1 and "has nothing to report yet, for no trial of it has begun" in err
    begin(sweep_state, store, sweep, 1)
    status, out, _ = command("report", store.location)
    assert status == 0 and "trial_0001" in out and f"distmgcd train {store.location}/best.yaml" in out
    assert states_in_table(store) == [("stopped", 3)]


def test_where_runs_were_deleted_the_table_that_knew_them_stays(sweep_state: SweepState, store: Store, sweep: Sweep):
    finish(sweep_state, store, sweep, 1)
    for path in Path(store.path("trials/trial_0001")).iterdir():
        if path.name != "trial.json":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (trial,) = write_report(store).trials
    assert (trial.state, trial.objective) == ("failed", None) and trial.reason.startswith("Its run is gone: ")
    assert states_in_table(store) == [("finished", 6)] and not store.exists("best.yaml")


def test_a_trial_that_ended_stays_ended_though_trial_json_was_lost_since(
    sweep_state: SweepState, store: Store, sweep: Sweep
):
    finish(sweep_state, store, sweep, 1)
    store.write("trials/trial_0001/trial.json", b"{")
    assert [trial.state for trial in write_report(store).trials] == ["finished"]


def test_a_sweep_file_that_cannot_be_read_is_named(sweep_state: SweepState, store: Store, sweep: Sweep):
    store.write("sweep.yaml", b"[]")
    with pytest.raises(UserError) as error:
        sweep_of(store)
    assert str(error.value).startswith(f"{store.path('sweep.yaml')}, line 1: ")


def test_what_is_no_sweep_is_a_sentence(sweep_state: SweepState, store: Store, tmp_path: Path, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert (
        f"There is no sweep at {tmp_path}/mine (did you mean sweeps/mine?): it has no sweep.yaml"
        in command("report", "mine")[2]
    )
    status, _, err = command("report", "nowhere")
    assert status == 2 and f"There is no sweep at {tmp_path}/nowhere: " in err


def test_trial_json_of_every_version_has_the_same_words(sweep_state: SweepState, store: Store, sweep: Sweep):
    sweep_state.started(1, sweep.point(1), {"langevin.step_size": 1.0})
    written = json.loads(store.read("trials/trial_0001/trial.json"))
    assert written["knobs"] == sweep.point(1) and written["draws"] == {"langevin.step_size": 1.0}
    assert set(written) == {"name", "state", "reason", "failures", "knobs", "draws", "run", "start"}
