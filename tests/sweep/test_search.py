"""Where trials come from."""

import math
import statistics
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_runs import TINY

from distmgcd.errors import UserError
from distmgcd.sweep.file import read_sweep
from distmgcd.sweep.plan import Sweep
from distmgcd.sweep.search import proposer_of
from distmgcd.sweep.trial_files import TrialState

TEXT = f"""\
base: {TINY}
objective: {{sizes: [8]}}
budget: {{updates: 6, evaluations: 2, samples: 8}}
num_trials: 40
search: tpe
space:
  one_of:
    - {{grids.sizes: [2, 8], langevin.num_steps: {{int: [1, 9, 2]}}}}
    - {{grids.sizes: [8]}}
  langevin.step_size: {{per_grid: {{loguniform: [0.1, 10]}}}}
  network.norm: {{choice: [none, layer]}}
"""


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    (tmp_path / "try.yaml").write_text(TEXT)
    return read_sweep(str(tmp_path / "try.yaml"))


def test_a_random_search_proposes_what_the_sweep_says(sweep: Sweep):
    sweep = replace(sweep, search="random")
    assert [proposer_of(sweep).propose(n)[0] for n in (1, 2, 3)] == [sweep.point(n) for n in (1, 2, 3)]


def test_without_optuna_tpe_is_refused_in_one_sentence(sweep: Sweep, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"needs Optuna, which is not installed; pip install 'distmgcd\[search\]'"):
        proposer_of(sweep)


def distance_from_one(parameters: dict) -> float:
    return statistics.mean(abs(math.log(value)) for value in parameters["langevin.step_size"])


def search(sweep: Sweep, proposer, numbers: range) -> list[TrialState]:
    trial_states = []
    for number in numbers:
        parameters, draws = proposer.propose(number)
        sweep.config_of(parameters)
        proposer.report(number, 1, distance_from_one(parameters) + 1)
        pruned = number % 5 == 0
        proposer.tell(number, None if pruned else distance_from_one(parameters))
        state = "pruned" if pruned else "finished"
        trial_states.append(TrialState(name=f"trial_{number:04d}", state=state, parameters=parameters, draws=draws))
    return trial_states


def test_tpe_finds_what_is_good(sweep: Sweep):
    pytest.importorskip("optuna")
    trial_states = search(sweep, proposer_of(sweep), range(1, 41))
    first, last = (
        [distance_from_one(trial_state.parameters) for trial_state in part]
        for part in (trial_states[:10], trial_states[-10:])
    )
    assert statistics.mean(last) < 0.6 * statistics.mean(first)
    assert {len(trial_state.parameters["langevin.step_size"]) for trial_state in trial_states} == {1, 2}


def test_tpe_goes_on_with_what_it_knew(sweep: Sweep):
    pytest.importorskip("optuna")
    trial_states = search(sweep, proposer_of(sweep), range(1, 31))
    again = proposer_of(sweep, trial_states)
    for number, trial_state in enumerate(trial_states, start=1):
        again.report(number, 1, distance_from_one(trial_state.parameters) + 1)
        again.tell(number, distance_from_one(trial_state.parameters) if trial_state.state == "finished" else None)
    later = search(sweep, again, range(31, 41))
    first, last = (
        [distance_from_one(trial_state.parameters) for trial_state in part] for part in (trial_states[:10], later)
    )
    assert statistics.mean(last) < 0.6 * statistics.mean(first)
    assert not {str(trial_state.parameters) for trial_state in later} & {
        str(trial_state.parameters) for trial_state in trial_states
    }


def test_tpe_asks_again_for_a_point_that_makes_no_config(sweep: Sweep, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("optuna")
    right = Sweep.config_of

    def only_one_grid(self: Sweep, parameters: dict):
        if len(parameters["grids.sizes"]) > 1:
            raise UserError("No.")
        return right(self, parameters)

    monkeypatch.setattr(Sweep, "config_of", only_one_grid)
    proposer = proposer_of(sweep)
    assert all(proposer.propose(n)[0]["grids.sizes"] == [8] for n in range(1, 11))
