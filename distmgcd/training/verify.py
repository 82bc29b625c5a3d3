"""Whether everything that a run has written is whole: what `distmgcd verify` shows."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import yaml

from distmgcd.config import Config
from distmgcd.errors import UserError
from distmgcd.models.assemble import make_learner, make_model
from distmgcd.runs import checkpoint, learner_state, strict_json
from distmgcd.runs.checkpoint import Checkpoint, DamagedCheckpoint
from distmgcd.runs.run_folder import Run
from distmgcd.workers.collectives import LocalWorker


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    damage: str | None  # None: it is whole
    note: str = ""
    way_out: str = ""


def verify(path: str) -> Iterator[Finding]:
    """Look at the config, the result and every checkpoint of a run. Raises UserError if there is no run at path.

    A checkpoint is whole if its checksums fit and all of it loads into the architecture of the config.
    """
    run = Run.open(path)
    config, finding = _read_config(run)
    yield finding
    names = checkpoint.names(run.store)
    for name in names:
        yield _look_at(run, config, name)
    for name in checkpoint.left_overs(run.store):
        yield Finding(name, None, "left half done by a process that was killed; the next checkpoint removes it")
    yield _look_at_result(run)


def _read_config(run: Run) -> tuple[Config | None, Finding]:
    try:
        return run.config(), Finding("config.yaml", None)
    except (UserError, OSError, ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
        way_out = "put back a copy of it, or write it anew with `distmgcd config`; nothing can be loaded without it"
        return None, Finding("config.yaml", _in_one_line(error), way_out=way_out)


def _look_at(run: Run, config: Config | None, name: str) -> Finding:
    folder = run.store.path(f"{checkpoint.FOLDER}/{name}")
    finished = " and result.json" if run.store.exists("result.json") else ""
    way_out = f"put back a copy, or delete {folder}{finished}: the command that trained the run goes on without it"
    try:
        found = checkpoint.read(run.store, name)
        if config is None:
            return Finding(name, None, f"checksums fit; {_size_of(found)}; not loaded, for want of the config")
        if found.is_exported:
            learner_state.load_weights(make_model(config), found, "ema.safetensors")
        else:
            learner_state.restore(make_learner(config, LocalWorker(torch.device("cpu"))), found)
        found.starts()
    except (DamagedCheckpoint, UserError) as error:
        return Finding(name, _in_one_line(error), way_out=way_out)
    except Exception as error:  # its checksums fit, so these bytes were written: whatever loading them raises is damage
        return Finding(name, f"it does not load ({type(error).__name__}: {_in_one_line(error)})", way_out=way_out)
    measured = found.measured
    distances = "  ".join(f"{size}x{size} {1000 * value:.1f}" for size, value in measured.get("swd", {}).items())
    swd = f"; 1000 x swd {distances}" if distances else ""
    fd = "".join(f"; {measure} {value:.4g}" for measure, value in measured.get("fd", {}).items())
    return Finding(name, None, f"{_size_of(found)}{swd}{fd}")


def _look_at_result(run: Run) -> Finding:
    if not run.store.exists("result.json"):
        return Finding("result.json", None, "not there yet: the run has not come to its end")
    try:
        update = strict_json.loads(run.store.read("result.json"))["update"]
        return Finding("result.json", None, f"of update {update}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        way_out = f"delete {run.store.path('result.json')}; the command that trained the run then measures it again"
        return Finding("result.json", _in_one_line(error), way_out=way_out)


def _size_of(found: Checkpoint) -> str:
    return f"{sum(map(len, found.files.values())) / 2**10:,.1f} KiB"


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
