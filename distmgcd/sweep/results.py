"""The results of a sweep, in its folder, and how they are made anew from results.parquet alone.

SWEEP/results.parquet     one row a trial, see results_parquet.py
SWEEP/best.yaml           a config file: the best trial's settings, to be trained on all training images
SWEEP/best_samples.png    the sample sheets of the best trials side by side
SWEEP/report.html         all of it to look at, in one file
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import distmgcd
from distmgcd.config import Config, flatten, make_config
from distmgcd.errors import UserError
from distmgcd.runs import lock, strict_json
from distmgcd.runs.store import Store
from distmgcd.sweep import ranking, results_parquet
from distmgcd.sweep.best import write_best, write_sheets
from distmgcd.sweep.page.page import page
from distmgcd.sweep.sweep_results import Sweep, SweepResults, changed, find
from distmgcd.sweep.trial import Trial


@dataclass(frozen=True)
class RecordedSweep:
    """A sweep as results.parquet remembers it."""

    name: str
    base: str
    objective: str
    space: dict[str, str]
    num_updates: int
    unlike_trials: Mapping[str, Any]  # {dotted path: value} of the preset, where trials have another
    configs: Mapping[str, dict[str, Any]]  # {name of a trial: its whole config}

    def config_of(self, trial: Trial) -> Config:
        if trial.name not in self.configs:
            raise UserError(f"The trial {trial.name} has no config; its settings did not fit together.")
        return make_config(self.configs[trial.name])

    def preset_of(self, trial: Trial) -> Config:
        return changed(self.config_of(trial), self.unlike_trials)


def write_results(store: Store, sweep: Sweep, trials: Sequence[Trial]) -> None:
    """Write everything into the sweep's folder; the same files again as the sweep goes on. Raises OSError."""
    results = find(store, sweep, trials)
    facts = {
        "distmgcd.sweep": strict_json.dumps(
            {**{key: getattr(sweep, key) for key in _FACTS}, **_unlike_trials(results)}
        ),
        "distmgcd.protocol": strict_json.dumps(results.protocol),
        "distmgcd.version": distmgcd.__version__,
    }
    configs = {name: config.model_dump() for name, config in results.configs.items()}
    results_parquet.write_table(store, trials, facts=facts, configs=configs)
    _write_what_is_shown(store, results)


def write_report(store: Store) -> SweepResults:
    """report.html, best.yaml and best_samples.png from results.parquet and the folders of the trials.

    Raises UserError if there are no results, and OSError.
    """
    sweep, trials = read_sweep(store)
    if store.is_local and not lock.is_locked(store):  # elsewhere nobody can tell whether a sweep runs
        trials = ranking.as_stopped(trials)
    results = find(store, sweep, trials)
    _write_what_is_shown(store, results)
    return results


def read_results(store: Store) -> list[Trial]:
    """The trials of a sweep. Raises UserError if it has no results."""
    return results_parquet.read_table(store)[0]


def read_sweep(store: Store) -> tuple[RecordedSweep, list[Trial]]:
    """Raises UserError if there are no results."""
    trials, facts, configs = results_parquet.read_table(store)
    try:
        return RecordedSweep(**strict_json.loads(facts["distmgcd.sweep"]), configs=configs), trials
    except (KeyError, ValueError, TypeError):
        raise UserError(
            f"The file {store.path(results_parquet.FILE)} does not name its sweep; give the folder of a sweep."
        ) from None


_FACTS: Iterable[str] = ("name", "base", "objective", "space", "num_updates")


def _unlike_trials(results: SweepResults) -> dict[str, dict[str, Any]]:
    """In what the preset of the best trial, and so of any, differs from its config."""
    best = results.best
    if best is None or best.name not in results.configs:
        return {"unlike_trials": {}}
    config, preset = (flatten(c.model_dump()) for c in (results.configs[best.name], results.sweep.preset_of(best)))
    return {"unlike_trials": {path: value for path, value in preset.items() if value != config[path]}}


def _write_what_is_shown(store: Store, results: SweepResults) -> None:
    write_best(store, results)
    write_sheets(store, results)
    store.write("report.html", page(results).encode("utf-8", "replace"))
