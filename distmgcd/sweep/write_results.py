"""The files that a sweep leaves for people and other tools. They are written from its trials and never read back.

SWEEP/results.parquet     one row per trial, see results_parquet.py
SWEEP/best.yaml           a config file: the best trial's settings, to be trained on all training images
SWEEP/best_samples.png    the sample sheets of the best trials side by side
SWEEP/report.html         all of it to look at, in one file; only with the libraries of the extra `report`
"""

from collections.abc import Sequence
from shlex import quote

from distmgcd.errors import UserError
from distmgcd.runs import lock
from distmgcd.runs.store import Store
from distmgcd.sweep.best_files import write_best, write_sheets
from distmgcd.sweep.page.page import can_be_written, page
from distmgcd.sweep.plan import Sweep
from distmgcd.sweep.read_trial import as_stopped, read_trials
from distmgcd.sweep.results_parquet import write_table
from distmgcd.sweep.sweep_results import SweepResults, gather
from distmgcd.sweep.trial import Trial
from distmgcd.sweep.trial_files import TRIALS, sweep_of

REPORT_FILE = "report.html"


def write_results(store: Store, sweep: Sweep, trials: Sequence[Trial]) -> None:
    """All of them; again as the sweep goes on. Raises OSError."""
    results = gather(sweep, trials)
    write_table(store, results)
    _write_what_is_shown(store, results)


def write_report(store: Store) -> SweepResults:
    """All of them, of a sweep that runs, has ended, was stopped or was killed.

    results.parquet is left alone while the sweep's own command writes it, and where it may hold what is known nowhere
    else: of trials whose runs were deleted. Raises UserError if this is no sweep or no trial has begun, and OSError.
    """
    sweep = sweep_of(store)
    trials = read_trials(store, sweep)
    if not trials:
        raise UserError(
            f"The sweep {store.location} has nothing to report yet, for no trial of it has begun; wait, or see "
            f"`distmgcd runs {quote(store.path(TRIALS))}`."
        )
    runs_now = lock.is_locked(store)
    if store.is_local and not runs_now:  # elsewhere nobody can tell whether a sweep runs
        trials = as_stopped(trials)
    results = gather(sweep, trials)
    if not runs_now and not any(trial.is_lost for trial in trials):
        write_table(store, results)
    _write_what_is_shown(store, results)
    return results


def _write_what_is_shown(store: Store, results: SweepResults) -> None:
    write_best(store, results)
    write_sheets(store, results)
    if can_be_written():
        store.write(REPORT_FILE, page(results).encode("utf-8", "replace"))
    else:  # an old one would be taken for that of now
        store.delete(REPORT_FILE)
