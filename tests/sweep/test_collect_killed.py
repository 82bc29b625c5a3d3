"""The report of a sweep whose command was killed tells of all that its trials have come to."""

import shutil
from pathlib import Path

import pytest
from tiny_runs import TINY, Stopped, stop_after

from distmgcd.errors import UserError
from distmgcd.launch import start_run
from distmgcd.runs import lock
from distmgcd.runs.store import Store
from distmgcd.sweep import results
from distmgcd.sweep.collect_killed import write_report
from distmgcd.sweep.file import read_sweep
from distmgcd.sweep.plan import Sweep
from distmgcd.sweep.sweep_state import SweepState
from distmgcd.sweep.trial_files import claim

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


def test_trials_that_began_after_the_results_were_written_are_reported(
    sweep_state: SweepState, store: Store, sweep: Sweep
):
    sweep_state.started(2, sweep.point(2), {})
    finish(sweep_state, store, sweep, 1)
    assert [(trial.state, trial.updates) for trial in results.read_results(store)] == [("finished", 6), ("running", 0)]
    begin(sweep_state, store, sweep, 2)
    begin(sweep_state, store, sweep, 3)
    first, *others = write_report(store).trials
    assert (first.name, first.state, first.updates) == ("trial_0001", "finished", 6)
    assert [
        (trial.name, trial.state, trial.reason, trial.updates) for trial in sorted(others, key=lambda t: t.name)
    ] == [
        ("trial_0002", "stopped", WORDS, 3),
        ("trial_0003", "stopped", WORDS, 3),
    ]
    assert all(trial.objective is not None and len(trial.history) == 1 for trial in others)
    recorded, trials = results.read_sweep(store)
    assert (recorded.name, recorded.base, len(trials)) == ("try", str(TINY), 3)
    assert recorded.config_of(others[0]) == sweep.config_of(others[0].parameters)
    assert "3 trials: 1 finished, 2 stopped." in store.read("report.html").decode()


def test_a_sweep_that_was_killed_before_any_trial_ended_has_a_report(
    sweep_state: SweepState, store: Store, sweep: Sweep
):
    with pytest.raises(UserError, match="has nothing to report yet, for no trial of it has ended"):
        write_report(store)
    begin(sweep_state, store, sweep, 1)
    with lock.locked(store), pytest.raises(UserError, match="has nothing to report yet"):
        write_report(store)
    (trial,) = write_report(store).trials
    assert (trial.state, trial.updates) == ("stopped", 3) and store.exists("best.yaml")
    recorded = results.read_sweep(store)[0]
    assert (recorded.name, recorded.base) == ("mine", str(TINY))


def test_while_the_sweep_runs_its_command_alone_writes_results(sweep_state: SweepState, store: Store, sweep: Sweep):
    finish(sweep_state, store, sweep, 1)
    begin(sweep_state, store, sweep, 2)
    before = store.read("results.parquet")
    with lock.locked(store):
        assert len(write_report(store).trials) == 1
    assert store.read("results.parquet") == before
    assert len(write_report(store).trials) == 2


def test_what_is_known_of_trials_whose_runs_are_gone_stays(sweep_state: SweepState, store: Store, sweep: Sweep):
    finish(sweep_state, store, sweep, 1)
    begin(sweep_state, store, sweep, 2)
    before = write_report(store).trials
    for name in ("trial_0001", "trial_0002"):  # each trial.json remains
        for path in Path(store.path(f"trials/{name}")).iterdir():
            if path.name != "trial.json":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    content = store.read("results.parquet")
    assert write_report(store).trials == before and store.read("results.parquet") == content
    shutil.rmtree(store.path("trials"))
    assert write_report(store).trials == before


def test_a_trial_that_ended_stays_ended_though_its_note_was_lost_since(
    sweep_state: SweepState, store: Store, sweep: Sweep
):
    finish(sweep_state, store, sweep, 1)
    store.write("trials/trial_0001/trial.json", b"{")
    assert [trial.state for trial in write_report(store).trials] == ["finished"]


def test_a_sweep_file_that_cannot_be_read_leaves_the_results_as_they_are(
    sweep_state: SweepState, store: Store, sweep: Sweep
):
    finish(sweep_state, store, sweep, 1)
    begin(sweep_state, store, sweep, 2)
    store.write("sweep.yaml", b"[]")
    assert [trial.name for trial in write_report(store).trials] == ["trial_0001"]


def test_the_command_reports_so(sweep_state: SweepState, store: Store, sweep: Sweep, command):
    status, _, err = command("report", store.location)
    assert status == 2 and err.count("\n") == 1 and "nothing to report yet" in err
    begin(sweep_state, store, sweep, 1)
    status, out, _ = command("report", store.location)
    assert status == 0 and "trial_0001" in out and f"distmgcd train {store.location}/best.yaml" in out
