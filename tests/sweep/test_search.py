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
from distmgcd.sweep.trial_files import Note

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


def distance_from_one(knobs: dict) -> float:
    return statistics.mean(abs(math.log(value)) for value in knobs["langevin.step_size"])


def search(sweep: Sweep, proposer, numbers: range) -> list[Note]:
    notes = []
    for number in numbers:
        knobs, draws = proposer.propose(number)
        sweep.config_of(knobs)
        proposer.report(number, 1, distance_from_one(knobs) + 1)
        pruned = number % 5 == 0
        proposer.tell(number, None if pruned else distance_from_one(knobs))
        state = "pruned" if pruned else "finished"
        notes.append(Note(name=f"trial_{number:04d}", state=state, knobs=knobs, draws=draws))
    return notes


def test_tpe_finds_what_is_good(sweep: Sweep):
    pytest.importorskip("optuna")
    notes = search(sweep, proposer_of(sweep), range(1, 41))
    first, last = ([distance_from_one(note.knobs) for note in part] for part in (notes[:10], notes[-10:]))
    assert statistics.mean(last) < 0.6 * statistics.mean(first)
    assert {len(note.knobs["langevin.step_size"]) for note in notes} == {1, 2}


def test_tpe_goes_on_with_what_it_knew(sweep: Sweep):
    pytest.importorskip("optuna")
    notes = search(sweep, proposer_of(sweep), range(1, 31))
    again = proposer_of(sweep, notes)
    for number, note in enumerate(notes, start=1):
        again.report(number, 1, distance_from_one(note.knobs) + 1)
        again.tell(number, distance_from_one(note.knobs) if note.state == "finished" else None)
    later = search(sweep, again, range(31, 41))
    first, last = ([distance_from_one(note.knobs) for note in part] for part in (notes[:10], later))
    assert statistics.mean(last) < 0.6 * statistics.mean(first)
    assert not {str(note.knobs) for note in later} & {str(note.knobs) for note in notes}


def test_tpe_asks_again_for_a_point_that_makes_no_config(sweep: Sweep, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("optuna")
    right = Sweep.config_of

    def only_one_grid(self: Sweep, knobs: dict):
        if len(knobs["grids.sizes"]) > 1:
            raise UserError("No.")
        return right(self, knobs)

    monkeypatch.setattr(Sweep, "config_of", only_one_grid)
    proposer = proposer_of(sweep)
    assert all(proposer.propose(n)[0]["grids.sizes"] == [8] for n in range(1, 11))
