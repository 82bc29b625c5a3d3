"""The report of a sweep whose command was killed.

results.parquet is written whenever a trial ends, so what trials did after that stands in their folders alone.
"""

from dataclasses import replace
from pathlib import Path
from shlex import quote

from distmgcd.errors import UserError
from distmgcd.runs import lock
from distmgcd.runs.store import Store
from distmgcd.sweep import results, results_parquet
from distmgcd.sweep.file import read_sweep
from distmgcd.sweep.plan import Sweep
from distmgcd.sweep.ranking import as_stopped
from distmgcd.sweep.sweep_results import SweepResults
from distmgcd.sweep.sweep_state import ForResults, SweepState
from distmgcd.sweep.trial import Trial
from distmgcd.sweep.trial_files import ENDED, SWEEP_FILE, TRIALS


def write_report(store: Store) -> SweepResults:
    """As results.write_report, but of a sweep that no command runs, all that its trials have come to.

    Raises UserError if no trial has begun, and OSError.
    """
    if store.is_local and not lock.is_locked(store) and (sweep := _sweep_of(store)):
        with lock.locked(store):
            known = as_stopped(results.read_results(store)) if store.exists(results_parquet.FILE) else []
            trials = _newest(known, as_stopped(SweepState(store, sweep).trials()))
            if trials != known:
                results.write_results(store, ForResults.of(sweep), trials)
    if store.exists(SWEEP_FILE) and not store.exists(results_parquet.FILE):
        raise UserError(
            f"The sweep {store.location} has nothing to report yet, for no trial of it has ended; wait, or see "
            f"`distmgcd runs {quote(store.path(TRIALS))}`."
        )
    return results.write_report(store)


def _newest(known: list[Trial], found: list[Trial]) -> list[Trial]:
    """What is known of every trial, but for those that have not ended there and are further now, and new ones."""
    newest = {trial.name: trial for trial in known}
    for trial in found:
        before = newest.get(trial.name)
        if before is None or (before.state not in ENDED and trial.updates >= before.updates):
            newest[trial.name] = trial
    return list(newest.values())


def _sweep_of(store: Store) -> Sweep | None:
    """The sweep of this folder, by the names that its results have; None if this version cannot read it."""
    if not store.exists(SWEEP_FILE):
        return None
    try:
        sweep = read_sweep(store.path(SWEEP_FILE))
        if store.exists(results_parquet.FILE):
            recorded = results.read_sweep(store)[0]
            return replace(sweep, name=recorded.name, base_name=recorded.base)
    except UserError:
        return None
    first_line = store.read(SWEEP_FILE).decode().partition("\n")[0]
    return replace(sweep, name=Path(store.location).name, base_name=first_line.removeprefix("# base: "))
