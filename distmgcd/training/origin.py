"""A run that starts from another one: from its weights, or (a trial) as a copy of one of its checkpoints.

    RUN/origin.json                  the other run, its checkpoint, which weights of it, and their SHA-256
    RUN/checkpoints/update_000000    model and averaged weights are those weights; optimiser and chains are new

From there on it is a run like any other. The checkpoint of update 0 always stays, so the other run may go.
"""

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

import torch

from distmgcd.config import Config
from distmgcd.data import ImageSet
from distmgcd.errors import UserError
from distmgcd.models.assemble import make_chains, make_learner, make_model
from distmgcd.models.sampling import start_distribution
from distmgcd.models.trained_model import WEIGHT_FILES, Weights
from distmgcd.runs import checkpoint, learner_state, retention, strict_json
from distmgcd.runs.checkpoint import Checkpoint, Progress
from distmgcd.runs.identity import differences, settings_of
from distmgcd.runs.read_log import LOG, record_of
from distmgcd.runs.run_folder import Run, StartFrom
from distmgcd.runs.store import Store
from distmgcd.workers.collectives import LocalWorker

FILE = "origin.json"
_MUST_FIT = ("grids.", "network.", "data.channels")


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Whose weights a run started from."""

    run: str  # the place of the other run
    checkpoint: str  # its name
    weights: Weights
    sha256: str  # of the file of these weights

    def __str__(self) -> str:
        kind = {"ema": "averaged", "raw": "raw"}[self.weights]
        return f"the {kind} weights of {self.run} at update {checkpoint.update_of(self.checkpoint)}"


def prepare(run: Run, config: Config, start: StartFrom | None) -> None:
    """Note where a new run starts, or see that this one started there. Raises UserError."""
    if start and Store(start.run).location == run.store.location:
        raise UserError(
            f"--from {start.run} would start the run {run.store.location} from itself; give the new one another --name."
        )
    if run.store.exists("config.yaml"):
        _check_started_from(run, start)
        return
    origin = _find(start, run=run, config=config) if start else None
    with run.writing():
        if origin is None:
            run.store.delete(FILE)  # of a command that was killed before it wrote the run
            return
        run.store.write(FILE, strict_json.dumps(asdict(origin), indent=1).encode())


def _find(start: StartFrom, *, run: Run, config: Config) -> Origin:
    """Raises UserError if there is no checkpoint that fits the config."""
    path, weights, other = start.run, start.weights, Run.open(start.run)
    theirs = other.config()
    found = retention.find(other.store, start.checkpoint, metric=theirs.checkpoint.metric)
    if found is None:
        raise UserError(f"--from {path} has no whole checkpoint to start from yet; train it until it saves one.")
    try:
        learner_state.load_weights(make_model(config), found, WEIGHT_FILES[weights])
    except UserError:
        changed = differences(*(settings_of(each, only=_MUST_FIT) for each in (theirs, config)))
        if not changed:  # it is not the shapes
            raise
        raise UserError(
            f"--from {path} has networks of other shapes than this config: {', '.join(changed)}; give the grids, "
            "networks and channels that it has. All other settings may differ."
        ) from None
    return Origin(run=other.store.location, checkpoint=found.name, weights=weights, sha256=_sha256(found, weights))


def read_origin(run: Run) -> Origin | None:
    """Of a run that started from another one's weights. Raises UserError if that is not legible."""
    if not run.store.exists(FILE):
        return None
    try:
        return Origin(**strict_json.loads(run.store.read(FILE)))
    except (ValueError, TypeError):
        raise UserError(f"{run.store.path(FILE)} is damaged; put back a copy, or choose another --name.") from None


def origin_in_result(run: Run) -> dict[str, Any]:
    """What result.json says of it."""
    origin = read_origin(run)
    return {"origin": asdict(origin)} if origin else {}


def _check_started_from(run: Run, start: StartFrom | None) -> None:
    """See that a run which is there started from what is asked for, if anything is. Raises UserError."""
    origin = read_origin(run)
    if start is None or (origin and (origin.run, origin.weights) == (Store(start.run).location, start.weights)):
        return
    raise UserError(
        f"The run {run.store.location} exists already, and started from {origin or 'untrained networks'}; choose "
        "another --name for one that starts elsewhere, or leave --from out to go on with it."
    )


def write_start(run: Run, config: Config, images: ImageSet) -> None:
    """The checkpoint of update 0, of a run with an origin that has no whole checkpoint. Raises UserError."""
    origin = read_origin(run)
    if origin is None or checkpoint.newest(run.store, warn=lambda _: None):
        return
    try:
        found = retention.find(Run.open(origin.run).store, origin.checkpoint, metric="swd")
    except UserError as error:
        raise UserError(
            _no_start(run, origin, why=f", nor can it be written anew ({str(error).rstrip('.')})")
        ) from None
    if found is None or _sha256(found, origin.weights) != origin.sha256:
        raise UserError(
            f"The weights that the run {run.store.location} was to start from, {origin}, are no longer the same; "
            "choose another --name to start anew."
        )
    worker = LocalWorker(torch.device("cpu"))
    learner, chains = make_learner(config, worker), make_chains(config, worker, num_images=len(images))
    for model in (learner.model, learner.ema):
        learner_state.load_weights(model, found, WEIGHT_FILES[origin.weights])
    chains = chains and chains.state()
    start = learner_state.snapshot(learner, start_distribution(images), Progress(), chains=chains)
    with run.writing():
        learner_state.write(run.store, start)


def check_untrained(run: Run) -> None:
    """See that a run without a checkpoint to begin from may begin with untrained networks. Raises UserError."""
    if origin := read_origin(run):
        raise UserError(_no_start(run, origin))


def _no_start(run: Run, origin: Origin, *, why: str = "") -> str:
    names, zero = checkpoint.names(run.store), checkpoint.name_of(0)
    has = f" (it has {', '.join(names)})" if names else ""
    return (
        f"The run {run.store.location} started from {origin}, but no whole checkpoint is left that it can begin from"
        f"{has}{why}; put back a copy of "
        f"{run.store.path(f'{checkpoint.FOLDER}/{zero}')}{'' if names else ', or of a later checkpoint'}."
    )


def _sha256(found: Checkpoint, weights: Weights) -> str:
    return hashlib.sha256(found.files[WEIGHT_FILES[weights]]).hexdigest()


def fork_from(run: Run, donor: Run, update: int) -> None:
    """Copy the donor's checkpoint of this update into a run that has none. Raises DamagedCheckpoint and OSError."""
    found = checkpoint.read(donor.store, checkpoint.name_of(update))
    if donor.store.exists(LOG):
        lines = donor.store.read(LOG).splitlines(keepends=True)
        kept = [line for line in lines if (record := record_of(line)) and record["update"] <= update]
        run.store.write(LOG, b"".join(kept))
    checkpoint.put(run.store, found.name, found.files.items())  # last: a run with a checkpoint is complete
