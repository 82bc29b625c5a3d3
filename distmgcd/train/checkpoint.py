"""Checkpoints: folders of safe files, complete or not there, proved by checksums.

    checkpoints/update_000200/
        model.safetensors  ema.safetensors  optimizer.safetensors  starts.safetensors
        state.json         updates done, the learning rate's scale, versions
        checksums.json     SHA-256 of each of the above, written last

Nothing here is pickled, so loading runs no code. The newest good one is used; a damaged one is skipped
with a warning.
"""

import hashlib
import json
import logging
import math
import platform
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import safetensors.torch
import torch
from torch import Tensor, nn

from distmgcd import __version__
from distmgcd.core.learning import Learner
from distmgcd.core.synthesis import StartDistribution
from distmgcd.errors import UserError
from distmgcd.train.store import Store

FOLDER = "checkpoints"
_NAME = re.compile(r"update_\d+")
_logger = logging.getLogger(__name__)


class DamagedCheckpoint(Exception):
    """A checkpoint whose files are missing or are not what was written."""


@dataclass(frozen=True)
class Progress:
    """What a run knows of itself beside its tensors."""

    update: int = 0  # updates done
    num_retries: int = 0  # how often it went back after diverging
    rate_scale: float = 1.0  # what is left of the learning rate after that
    seconds: float = 0.0  # spent in updates, over all restarts


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory, its checksums verified."""

    name: str
    progress: Progress
    files: dict[str, bytes]

    def tensors(self, file: str) -> dict[str, Tensor]:
        return safetensors.torch.load(self.files[file])

    def starts(self) -> StartDistribution:
        return StartDistribution(**self.tensors("starts.safetensors"))


def save(store: Store, learner: Learner, starts: StartDistribution, progress: Progress) -> str:
    """Write a checkpoint; returns its name. It has its final name only once it is complete."""
    name = f"update_{progress.update:06d}"
    state = {
        "progress": asdict(progress),
        "versions": {"distmgcd": __version__, "torch": torch.__version__, "python": platform.python_version()},
    }
    files = {
        "model.safetensors": safetensors.torch.save(_contiguous(learner.model.state_dict())),
        "ema.safetensors": safetensors.torch.save(_contiguous(learner.ema.state_dict())),
        "optimizer.safetensors": safetensors.torch.save(_contiguous(_optimizer_state(learner))),
        "starts.safetensors": safetensors.torch.save(_contiguous(asdict(starts))),
        "state.json": json.dumps(state, indent=1).encode(),
    }
    files["checksums.json"] = json.dumps(
        {file: _checksum(content) for file, content in files.items()}, indent=1
    ).encode()
    # On an object store, which cannot rename a folder, the checksums written last are what completes it.
    folder = f"{FOLDER}/{name}.unfinished" if store.is_local else f"{FOLDER}/{name}"
    store.delete_folder(folder)
    for file, content in files.items():
        store.write(f"{folder}/{file}", content)
    if store.is_local:
        store.delete_folder(f"{FOLDER}/{name}")
        store.rename_folder(folder, f"{FOLDER}/{name}")
    return name


def prune(store: Store, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints."""
    for name in names(store)[:-keep]:
        store.delete_folder(f"{FOLDER}/{name}")


def names(store: Store) -> list[str]:
    """Oldest first; complete or damaged, but not unfinished."""
    return sorted(filter(_NAME.fullmatch, store.names(FOLDER)), key=updates_of)


def updates_of(name: str) -> int:
    """How many updates a checkpoint of this name has behind it."""
    return int(name.removeprefix("update_"))


def newest(
    store: Store, warn: Callable[[str], None] = _logger.warning, *, at_most: float = math.inf
) -> Checkpoint | None:
    """The newest checkpoint that is whole, of those of at most so many updates; None if there is none.

    Each damaged one is skipped with a warning.
    """
    for name in reversed([name for name in names(store) if updates_of(name) <= at_most]):
        try:
            return read(store, name)
        except DamagedCheckpoint as error:
            warn(f"The checkpoint {store.path(f'{FOLDER}/{name}')} is damaged ({error}); using the one before it.")
    return None


def read(store: Store, name: str) -> Checkpoint:
    """Read one checkpoint and verify it. Raises DamagedCheckpoint."""
    files: dict[str, bytes] = {}
    try:
        checksums = json.loads(store.read(f"{FOLDER}/{name}/checksums.json"))
        for file, checksum in checksums.items():
            files[file] = store.read(f"{FOLDER}/{name}/{file}")
            if _checksum(files[file]) != checksum:
                raise DamagedCheckpoint(f"the checksum of {file} does not fit")
        progress = Progress(**json.loads(files["state.json"])["progress"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedCheckpoint(f"{type(error).__name__}: {error}") from error
    return Checkpoint(name, progress, files)


def restore(learner: Learner, checkpoint: Checkpoint) -> None:
    """Put a checkpoint's weights and optimiser state into a learner.

    Raises UserError if it is of another architecture.
    """
    load_weights(learner.model, checkpoint, "model.safetensors")
    load_weights(learner.ema, checkpoint, "ema.safetensors")
    saved = checkpoint.tensors("optimizer.safetensors")
    for grid, optimizer in enumerate(learner.optimizers):
        optimizer.state.clear()
        for position, parameter in enumerate(optimizer.param_groups[0]["params"]):
            prefix = f"{grid}.{position}."
            # Adam's own step count lives where the fused kernel wants it: beside the parameter.
            state = {
                key.removeprefix(prefix): value.to(parameter.device)
                for key, value in saved.items()
                if key.startswith(prefix)
            }
            if state:
                optimizer.state[parameter] = state


def load_weights(model: nn.Module, checkpoint: Checkpoint, file: str) -> None:
    """Copy saved weights into a model, in place. Raises UserError if it is of another architecture."""
    saved = checkpoint.tensors(file)
    found, wanted = (
        {name: tuple(value.shape) for name, value in state.items()} for state in (saved, model.state_dict())
    )
    if differing := [name for name in (wanted | found) if found.get(name) != wanted.get(name)]:
        name = differing[0]
        raise UserError(
            f"The checkpoint {checkpoint.name} is of another architecture: {name} is {found.get(name, 'absent')} in it "
            f"but {wanted.get(name, 'absent')} in this config; give the config it was trained with, or another --name."
        )
    model.load_state_dict(saved)


def _optimizer_state(learner: Learner) -> dict[str, Tensor]:
    return dict(_flat_state(learner))


def _flat_state(learner: Learner) -> Iterator[tuple[str, Tensor]]:
    for grid, optimizer in enumerate(learner.optimizers):
        for position, parameter in enumerate(optimizer.param_groups[0]["params"]):
            for key, value in optimizer.state.get(parameter, {}).items():
                yield f"{grid}.{position}.{key}", value


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().contiguous() for name, value in tensors.items()}


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
