"""What Tune is told of trials, without a Ray that runs."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray import cloudpickle
from ray.exceptions import RayActorError
from ray.tune.search import Searcher
from tiny_runs import TINY

from distmgcd.on_ray.tune import tune_callback
from distmgcd.on_ray.tune.schedulers import scheduler_of
from distmgcd.on_ray.tune.searcher import TrialSource
from distmgcd.runs.store import Store
from distmgcd.sweep.file import read_sweep
from distmgcd.sweep.plan import Scheduler, Sweep
from distmgcd.sweep.search import Listed
from distmgcd.sweep.sweep_state import SweepState

TEXT = f"""\
base: {TINY}
budget: {{updates: 9, evaluations: 9, samples: 8}}
num_trials: 4
scheduler: asha
space: {{langevin.step_size: {{uniform: [0.5, 2]}}}}
"""
ENDED = {"evaluation": 9, "objective": 0.1, "state": "finished"}


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    (tmp_path / "try.yaml").write_text(TEXT)
    return read_sweep(str(tmp_path / "try.yaml"))


def state_with(tmp_path: Path, sweep: Sweep, **states: str) -> SweepState:
    """As a sweep finds them that goes on."""
    sweep_state = SweepState(Store(str(tmp_path / "sweep")), sweep)
    for number, state in enumerate(states.values(), start=1):
        sweep_state.started(number, {"langevin.step_size": float(number)}, {})
        if state != "running":
            sweep_state.ended(number, state, "")
    return SweepState(Store(str(tmp_path / "sweep")), sweep)


def test_no_more_trials_run_than_there_is_room_for(tmp_path: Path, sweep: Sweep):
    trials = TrialSource(sweep, state_with(tmp_path, sweep), Listed(sweep), limit=2)
    assert [trials.suggest(name)["trial"]["number"] for name in "ab"] == [1, 2] and trials.suggest("c") is None
    trials.on_trial_complete("a", ENDED)
    assert trials.suggest("c")["trial"]["number"] == 3
    for name in "bc":
        trials.on_trial_complete(name, ENDED)
    assert trials.suggest("d")["trial"]["number"] == 4 and trials.suggest("e") == Searcher.FINISHED


def test_kept_trials_are_told_first_then_begun_ones_go_on_then_new_ones_start(tmp_path: Path, sweep: Sweep):
    sweep_state = state_with(tmp_path, sweep, one="running", two="diverged", three="failed")
    trials = TrialSource(sweep, sweep_state, Listed(sweep), limit=9)
    assert trials.num_trials == 4
    first = trials.suggest("a")["trial"]
    assert (first["number"], first["kept"], first["parameters"]) == (2, "diverged", {"langevin.step_size": 2.0})
    assert trials.suggest("b") is None, "before the scheduler has heard of all that came before"
    trials.on_trial_complete("a", {**ENDED, "state": "diverged"})
    others = [trials.suggest(name)["trial"] for name in "bcd"]
    assert [(trial["number"], trial["kept"]) for trial in others] == [(1, None), (3, None), (4, None)]
    assert others[2]["parameters"] == sweep.point(4)


def test_a_trial_that_nothing_is_left_of_starts_anew_under_its_number(tmp_path: Path, sweep: Sweep):
    state_with(tmp_path, sweep, one="finished", two="finished", three="finished")
    Store(str(tmp_path / "sweep")).delete("trials/trial_0002/trial.json")
    trials = TrialSource(sweep, SweepState(Store(str(tmp_path / "sweep")), sweep), Listed(sweep), limit=9)
    assert [trial["number"] for trial in trials.all_at_once()] == [1, 3, 2, 4] and trials.num_trials == 4


def test_a_sweep_that_stops_starts_no_more_trials(tmp_path: Path, sweep: Sweep):
    trials = TrialSource(sweep, state_with(tmp_path, sweep), Listed(sweep), limit=2)
    trials.suggest("a")
    trials.stop()
    assert trials.suggest("b") == Searcher.FINISHED


def test_a_population_is_known_beforehand(tmp_path: Path, sweep: Sweep):
    sweep_state = state_with(tmp_path, sweep, one="finished", two="running")
    found = TrialSource(sweep, sweep_state, Listed(sweep), limit=2).all_at_once()
    assert [(trial["number"], trial["kept"]) for trial in found] == [(1, "finished"), (2, None), (3, None), (4, None)]


def decisions(scheduler, name: str, objective: float, **more: bool) -> list[str]:
    """Of a trial that shows this at evaluations 1, 3 and 9."""
    trial = SimpleNamespace(trial_id=name)
    scheduler.on_trial_add(None, trial)
    reports = [{"evaluation": evaluation, "objective": objective, **more} for evaluation in (1, 3)]
    return [scheduler.on_trial_result(None, trial, report) for report in reports]


def test_asha_hears_of_kept_trials_but_does_not_stop_them(tmp_path: Path, sweep: Sweep):
    scheduler = scheduler_of(sweep, state_with(tmp_path, sweep))
    scheduler.set_search_properties("objective", "min")
    assert decisions(scheduler, "good", 0.1, kept=True) == ["CONTINUE", "CONTINUE"]
    assert decisions(scheduler, "bad", 0.9, kept=True) == ["CONTINUE", "CONTINUE"]
    assert decisions(scheduler, "new", 0.5)[0] == "STOP"
    assert decisions(scheduler, "best", 0.05) == ["CONTINUE", "CONTINUE"]


def test_a_trial_of_a_population_takes_the_others_settings_moved_and_its_newest_checkpoint(
    tmp_path: Path, sweep: Sweep
):
    sweep = replace(sweep, scheduler=Scheduler(kind="pbt", resample=0.0))
    sweep_state = state_with(tmp_path, sweep, one="running", two="running")
    scheduler = scheduler_of(sweep, sweep_state)
    worst, best = (
        SimpleNamespace(
            config={"trial": {"number": n, "run": f"trial_000{n}", "parameters": {"langevin.step_size": 1.0}}}
        )
        for n in (1, 2)
    )

    class ByIdentity(dict):
        def __getitem__(self, trial: SimpleNamespace) -> SimpleNamespace:
            return super().__getitem__(id(trial))

    scheduler._trial_state = ByIdentity({id(best): SimpleNamespace(last_result={"updates": 6})})
    new = scheduler._get_new_config(worst, best)[0]["trial"]
    assert (new["number"], new["run"], new["start"]) == (1, "trial_0001.2", {"run": "trial_0002", "update": 6})
    assert new["parameters"]["langevin.step_size"] in (0.8, 1.25)
    assert worst.config["trial"]["parameters"] == {"langevin.step_size": 1.0}
    worst.config = {"trial": new}
    assert scheduler._get_new_config(worst, best)[0]["trial"]["run"] == "trial_0001.3"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RayActorError(actor_id="a", error_msg="The actor died.\n\tpid: 17\n\tip: h"), "Its process 17 died."),
        (ValueError("odd\nnumber 3."), "Its process failed: number 3."),
        (None, "Its process failed: Ray does not say why."),
    ],
)
def test_why_a_process_was_lost_is_a_sentence(tmp_path: Path, error: Exception | None, said: str):
    if error:
        (tmp_path / "error.pkl").write_bytes(cloudpickle.dumps(error))
    assert tune_callback._why(SimpleNamespace(pickled_error_file=error and str(tmp_path / "error.pkl"))) == said
