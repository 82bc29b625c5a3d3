"""What is known of a trial, read from the folder of its run: config.yaml, log/metrics.jsonl and result.json."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from distmgcd.config import Config
from distmgcd.errors import UserError
from distmgcd.runs import lock, strict_json
from distmgcd.runs.read_log import Record, read_log
from distmgcd.runs.run_folder import Run
from distmgcd.runs.store import Store
from distmgcd.sweep.objective import value_of
from distmgcd.sweep.plan import Sweep
from distmgcd.sweep.trial import State, Trial, TrialState
from distmgcd.sweep.trial_files import location_of, read_trial_states

_STOPPED = "The sweep was stopped or killed; this trial goes on with --resume."
_MEASURED = ("swd", "swd_spread", "fd", "fd_spread")  # fields of Trial, keys of records and of result.json


def read_trials(store: Store, sweep: Sweep) -> list[Trial]:
    """Every trial of a sweep that has begun, by name, from its folder: results and reports are made of these."""
    return [read_trial(store, sweep, trial) for trial in read_trial_states(store, sweep.space)]


def read_trial(store: Store, sweep: Sweep, known: TrialState) -> Trial:
    """One of them. A trial whose trial.json is lost is what its run says, and one that has not ended is running."""
    state = None if known.is_lost else known.state
    run, objective = location_of(store, known), sweep.objective
    found = trial_of(run, parameters=known.parameters, objective=objective, state=state, reason=known.reason)
    if known.is_lost and found.state == "failed" and found.config:
        found = replace(found, state="running", reason="")
    return replace(found, name=known.name, failures=tuple(known.failures))


def as_stopped(trials: Iterable[Trial]) -> list[Trial]:
    """The trials of a sweep that does not run: none of them does."""
    return [replace(t, state="stopped", reason=_STOPPED) if t.state == "running" else t for t in trials]


def trial_of(
    run: str, *, parameters: Mapping[str, Any], objective: str = "swd", state: State | None = None, reason: str = ""
) -> Trial:
    """The trial whose run lies in this folder (a path or a URI), as far as it has come.

    parameters: {dotted path: value}, as the search chose them. objective: swd, swd/16 or fd, see objective.py.
    state: as the search knows it, pruned say; None reads it off the files, where a run that stopped without a result
    has failed.
    Never raises for a run that is damaged or has not begun: the trial says so.
    """
    store = Store(run)
    known = {
        "name": run.rstrip("/").rpartition("/")[2],
        "run": run,
        "parameters": {k: _plain(v) for k, v in parameters.items()},
    }
    if not store.exists("config.yaml"):
        if state in ("finished", "pruned"):
            return Trial(**known, state="failed", reason=f"Its run is gone: {run} has no config.yaml.", is_lost=True)
        return Trial(**known, state=state or "waiting", reason=reason, is_lost=state == "diverged")
    try:
        config, records = Run.open(run).config(), read_log(store)
        result = strict_json.loads(store.read("result.json")) if store.exists("result.json") else None
    except (UserError, OSError, ValueError) as error:
        return Trial(**known, state="failed", reason=f"Its run cannot be read: {error}", is_lost=True)
    found, why = _state(store, config, records, result)
    return Trial(
        **known,
        config=config,
        state=state or found,
        reason=reason or (why if state in (None, found) else ""),
        **_measured(config, records, result, objective),
    )


def _state(store: Store, config: Config, records: Sequence[Record], result: Record | None) -> tuple[State, str]:
    if result:
        return "finished", ""
    last = _last(records)
    if "diverged" in last:
        return "diverged", last["diverged"]
    if lock.is_locked(store):
        return "running", ""
    return "failed", f"It stopped at update {last.get('update', 0)} of {config.learning.num_updates}."


def _measured(config: Config, records: Sequence[Record], result: Record | None, objective: str) -> dict[str, Any]:
    """Distances, cost and history, by the names of Trial's fields; what is not known yet is left out."""
    speeds = [record["images_per_s"] for record in records if "grids" in record]
    evaluations = [record for record in records if "swd" in record]
    history = history_of(records, objective)
    latest = evaluations[-1] if evaluations else {}
    measured = {key: latest.get(key, {}) for key in _MEASURED}
    if result:
        measured = {key: result.get(key, {}).get("samples", {}) for key in _MEASURED}
    return {
        **measured,
        "objective": value_of(measured, objective),
        "gradient_evaluations": sum(config.per_grid("langevin.num_steps")),
        "images_per_s": statistics.median(speeds) if speeds else None,  # the first interval warms up
        "updates": result["update"] if result else _last(records).get("update", 0),
        "seconds": result["seconds"] if result else _seconds(records, config.learning.global_batch_size),
        "history": history,
    }


def history_of(records: Sequence[Record], objective: str) -> tuple[tuple[int, float], ...]:
    """(updates done, objective) of every evaluation on the way to the present weights.

    Where a run went back, what came after the checkpoint it went back to is no part of that way.
    """
    history: list[tuple[int, float]] = []
    for record in records:
        if "rate_scale" in record:
            history = [entry for entry in history if entry[0] <= record["update"]]
        elif (value := value_of(record, objective)) is not None:
            history = [entry for entry in history if entry[0] < record["update"]] + [(record["update"], value)]
    return tuple(history)


def _last(records: Sequence[Record]) -> Record:
    """The newest record; that of a checkpoint may come late and is passed over."""
    return next((record for record in reversed(records) if "checkpoint" not in record), {})


def _seconds(records: Sequence[Record], batch_size: int) -> float:
    """Of training, roll-backs included; as result.json has it, for a run that has none yet."""
    seconds, last = 0.0, 0
    for record in records:
        if "grids" in record:
            seconds += max(0, record["update"] - last) * batch_size / record["images_per_s"]
        if "checkpoint" not in record:
            last = record["update"]
    return seconds


def _plain(value: Any) -> Any:
    """Lists for tuples, as YAML has them."""
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
