"""What was measured, in a file beside the run, or in another folder: every number with the protocol it was taken by.

    RUN/evaluation/update_000500-ema-EfficientNetLite0-n359-seed0.json
    RUN/evaluation/...-samples.png, -neighbours-pixels.png, -neighbours-features.png, -chains.png

Measured again with other metrics, the file holds both, as long as all that numbers depend on is the same.
"""

import json
import math
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from distmgcd import __version__
from distmgcd.config.schema import Config
from distmgcd.config.sections import LangevinSettings
from distmgcd.errors import UserError
from distmgcd.evaluation.subject import Subject
from distmgcd.models.trained_model import TrainedModel
from distmgcd.runs import strict_json
from distmgcd.runs.run_folder import Run
from distmgcd.runs.store import Store

FOLDER = "evaluation"
_WHERE = ("data", "held_out", "images")  # with the path of the images, for a person


def add_results(
    store: Store,
    stem: str,
    identity: dict[str, Any],
    results: dict[str, Any],
    measured: dict[str, Any],
    sheets: dict[str, bytes],
) -> dict[str, Any]:
    """Write results beside those of the same identity that the file of this stem holds already.

    stem: the place in the run's folder, without an ending; measured: how these results came about. Returns what the
    file then holds, with its place ("file"), the sheets, and what is new in it ("new"). Raises UserError.
    """
    identity, results = _plain(identity), _plain(results)
    before = _read(store, f"{stem}.json")
    if before is None or not is_same(before.get("identity"), identity):
        before = {"results": {}, "measured": {}}
    record = {
        "identity": identity,
        "measured": before["measured"] | dict.fromkeys(results, _plain(measured)),
        "results": before["results"] | results,
    }
    with writing_to(store, stem.partition("/")[0]):
        for name, picture in sheets.items():
            store.write(f"{stem}-{name}.png", picture)
        store.write(f"{stem}.json", json.dumps(record, indent=1, allow_nan=False).encode())
    places = {"file": store.path(f"{stem}.json"), "sheets": [store.path(f"{stem}-{s}.png") for s in sheets]}
    return {**record, **places, "new": list(results)}


def write_record(store: Store, name: str, record: dict[str, Any]) -> str:
    """Write a whole record to RUN/evaluation; returns its path. Raises UserError if the place cannot be written."""
    with writing_to(store, FOLDER):
        store.write(f"{FOLDER}/{name}", strict_json.dumps(record, indent=1).encode())
    return store.path(f"{FOLDER}/{name}")


def read_record(store: Store, name: str, *, identity: dict[str, Any]) -> dict[str, Any] | None:
    """An earlier record of the same identity in RUN/evaluation; None if there is none, or no whole one."""
    try:
        found = strict_json.loads(store.read(f"{FOLDER}/{name}"))
    except (OSError, ValueError):
        return None
    same = isinstance(found, dict) and is_same(found.get("identity"), json.loads(json.dumps(identity)))
    return found if same else None


def results_of(run: Run, out: str | None) -> Store:
    """The folder that results go to: `out`, else the run's own; of a pretrained model, which is never written, another.

    Raises UserError if it is no folder.
    """
    if out is None and run.store.read_only:
        return Store(f"runs/{run.name.replace(':', '-')}")
    return run.store if out is None else Store(out)


@contextmanager
def writing_to(store: Store, folder: str) -> Iterator[None]:
    """An OSError inside is a UserError that names this folder of the run."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"The results cannot be written to {store.path(folder)} ({error.strerror or error}); free space there, or "
            "name another folder by --out."
        ) from None


def check_writable(store: Store, folder: str = FOLDER) -> None:
    """See, before hours of work, that results can be written. Raises UserError."""
    with writing_to(store, folder):
        trial = f"{f'{folder}/' if store.exists(folder) else ''}.writable-{os.getpid()}"  # a mistake makes no folder
        store.write(trial, b"")
        store.delete(trial)


def stem_of(subject: Subject) -> str:
    request, trained = subject.request, subject.trained
    features = [subject.network.label] if subject.network else []
    parts = [trained.checkpoint, trained.weights, *features, f"n{subject.num}", f"seed{request.seed}"]
    return f"{FOLDER}/{'-'.join(parts)}"


def identity_of(subject: Subject) -> dict[str, Any]:
    """All that every number depends on, the metric's own protocol apart."""
    request = subject.request
    return {
        **identity_of_model(subject.run, subject.trained),
        "num": subject.num,
        "seed": request.seed,
        "samples": f"numbers 0 to {subject.num - 1}: fresh chains from drawn starts, rounded to 8 bits as the data are",
        "data": f"{subject.num} random images of {subject.images.name}",
        "held_out": f"{subject.num} random images of {subject.held_out.name}",
        "data_fingerprints": [subject.images.content, subject.held_out.content],
        "features": subject.network.protocol() if subject.network else None,
    }


def identity_of_model(run: Run, trained: TrainedModel) -> dict[str, Any]:
    """Which weights, and how their chains move."""
    config = trained.config
    return {
        "run": run.name,
        "checkpoint": trained.checkpoint,
        "update": trained.update,
        "weights": {"ema": "averaged over updates (ema)", "raw": "as the last update left them (raw)"}[trained.weights],
        "weights_sha256": trained.checksum,
        "steps": dict(zip(map(str, config.grids.sizes), config.per_grid("langevin.num_steps"), strict=True)),
        **{key: config.per_grid(f"langevin.{key}") for key in ("step_size", "temperature", "clamp")},
        **_changed_noise(config),
        "versions": {"distmgcd": __version__, "torch": str(torch.__version__), "python": platform.python_version()},
    }


def _changed_noise(config: Config) -> dict[str, Any]:
    """Settings of the chains' noise; none where they are at their defaults, which older records do not know."""
    found = {key: config.per_grid(f"langevin.{key}") for key in ("noise", "sample_noise")}
    return {key: values for key, values in found.items() if set(values) != {getattr(LangevinSettings(), key)}}


def is_same(found: Any, identity: dict[str, Any]) -> bool:
    """Whether numbers of this identity belong together, wherever the images have been: their content is part of it."""
    return isinstance(found, dict) and all(
        found.get(key) == identity.get(key) for key in found.keys() | identity.keys() if key not in _WHERE
    )


def _read(store: Store, name: str) -> dict[str, Any] | None:
    """An earlier record; None if there is none, or no whole one."""
    try:
        found = json.loads(store.read(name))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and {"results", "measured"} <= found.keys() else None


def _plain(value: Any) -> Any:
    """As JSON gives it back; a number that is not finite is null."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
