"""results.parquet: one row per trial, for whoever reads it with other tools. Every parameter has a column of its own.

The columns knobs and config hold the parameters and the whole config of a trial as JSON.
"""

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import distmgcd
from distmgcd.runs import strict_json
from distmgcd.runs.store import Store
from distmgcd.sweep.sweep_results import SweepResults
from distmgcd.sweep.trial import Trial

FILE = "results.parquet"

_TYPES = {
    "name": pa.string(),
    "state": pa.string(),
    "reason": pa.string(),
    "objective": pa.float64(),
    "gradient_evaluations": pa.int64(),
    "images_per_s": pa.float64(),
    "updates": pa.int64(),
    "seconds": pa.float64(),
    "history": pa.list_(pa.struct([("updates", pa.int64()), ("objective", pa.float64())])),
    "run": pa.string(),
    "failures": pa.list_(pa.string()),
}
_MEASURED = ("swd", "swd_spread", "fd", "fd_spread")  # a column for each grid, or name, of each of these


def write_table(store: Store, results: SweepResults) -> None:
    """Raises OSError."""
    sweep, trials = results.sweep, sorted(results.trials, key=lambda trial: trial.name)
    facts = {
        "name": sweep.name,
        "base": sweep.base_name,
        "objective": sweep.objective,
        "space": results.space,
        "num_updates": sweep.budget.updates,
    }
    metadata = {
        "distmgcd.sweep": strict_json.dumps(facts),
        "distmgcd.protocol": strict_json.dumps(results.protocol),
        "distmgcd.version": distmgcd.__version__,
    }
    columns, schema = {}, []
    for name, kind in _TYPES.items():
        columns[name] = [_cell(trial, name, store) for trial in trials]
        schema.append(pa.field(name, kind))
    for name in _MEASURED:
        for one in _keys(getattr(trial, name) for trial in trials):
            columns[f"{name}.{one}"] = [getattr(trial, name).get(one) for trial in trials]
            schema.append(pa.field(f"{name}.{one}", pa.float64()))
    for path in _keys(trial.parameters for trial in trials):
        kind, columns[f"knob.{path}"] = _column([trial.parameters.get(path) for trial in trials])
        schema.append(pa.field(f"knob.{path}", kind or pa.string(), metadata=None if kind else {"encoding": "json"}))
    columns["knobs"] = [strict_json.dumps(trial.parameters) for trial in trials]
    columns["config"] = [strict_json.dumps(t.config.model_dump()) if t.config else None for t in trials]
    schema += [pa.field(name, pa.string(), metadata={"encoding": "json"}) for name in ("knobs", "config")]
    table = pa.table(columns, schema=pa.schema(schema, metadata=metadata))
    content = io.BytesIO()
    pq.write_table(table, content)
    store.write(FILE, content.getvalue())


def _cell(trial: Trial, name: str, store: Store) -> Any:
    if name == "history":
        return [{"updates": updates, "objective": objective} for updates, objective in trial.history]
    if name == "reason":  # it may quote a file name that is no text
        return _as_text(trial.reason)
    if name == "failures":
        return [_as_text(why) for why in trial.failures]
    return _relative(trial.run, store) if name == "run" else getattr(trial, name)


def _as_text(sentence: str) -> str:
    return sentence.encode("utf-8", "replace").decode()


def _relative(run: str, store: Store) -> str:
    """Runs inside the sweep's folder by their place in it, so that the folder may move."""
    inside = store.path("x")[:-1]
    return f"./{run.removeprefix(inside)}" if run.startswith(inside) else run


def _keys(dicts: Any) -> list[str]:
    """The keys of all of them, in the order in which they first occur."""
    return list(dict.fromkeys(key for found in dicts for key in found))


def _column(values: list[Any]) -> tuple[pa.DataType | None, list[Any]]:
    """A type that holds these values exactly, and the values; None and JSON texts where there is none."""
    kind = _type_of([value for value in values if value is not None])
    return kind, values if kind else [None if value is None else strict_json.dumps(value) for value in values]


def _type_of(values: list[Any]) -> pa.DataType | None:
    kinds = {type(value) for value in values}
    if kinds == {list}:
        inner = _type_of([item for value in values for item in value])
        has_null = any(item is None for value in values for item in value)
        return None if inner is None or has_null else pa.list_(inner)
    if kinds == {bool}:
        return pa.bool_()
    if kinds == {int} and all(-(2**63) <= value < 2**63 for value in values):
        return pa.int64()
    if kinds and kinds <= {int, float} and all(abs(value) < 2**53 for value in values if isinstance(value, int)):
        return pa.float64()
    return pa.string() if kinds == {str} else None
