"""What is saved of a learner and put back into one: weights, averaged weights and the optimiser's state."""

import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from distmgcd import __version__
from distmgcd.core.learning import Learner
from distmgcd.core.synthesis import StartDistribution
from distmgcd.errors import UserError
from distmgcd.runs import strict_json
from distmgcd.runs.checkpoint import CHAINS_FILE, TENSOR_FILES, Checkpoint, Measured, Progress, name_of, put
from distmgcd.runs.store import Store


@dataclass(frozen=True)
class Snapshot:
    """The state of a run at one moment, copied to the CPU: learning may continue while it is written."""

    tensors: dict[str, dict[str, Tensor]]  # file: name: value
    progress: Progress
    measured: Measured
    speed: Mapping[str, Any]


def snapshot(
    learner: Learner,
    starts: StartDistribution,
    progress: Progress,
    *,
    measured: Measured | None = None,
    chains: dict[str, Tensor] | None = None,
    speed: Mapping[str, Any] | None = None,
) -> Snapshot:
    state = (learner.model.state_dict(), learner.ema.state_dict(), dict(_flat_state(learner)), asdict(starts))
    tensors = dict(zip(TENSOR_FILES, map(_copied, state), strict=True))
    return Snapshot(tensors | ({CHAINS_FILE: _copied(chains)} if chains else {}), progress, measured or {}, speed or {})


def save(
    store: Store,
    learner: Learner,
    starts: StartDistribution,
    progress: Progress,
    *,
    measured: Measured | None = None,
) -> str:
    """Write a checkpoint, and wait for it; returns its name. Raises OSError."""
    return write(store, snapshot(learner, starts, progress, measured=measured))


def write(store: Store, snapshot: Snapshot) -> str:
    """Write a checkpoint; returns its name. Raises OSError, and then leaves nothing of it."""
    return put(store, name_of(snapshot.progress.update), _contents(snapshot))


def _contents(snapshot: Snapshot) -> Iterator[tuple[str, bytes]]:
    """One file after the other, so that only one is in memory twice."""
    yield from ((file, safetensors.torch.save(tensors)) for file, tensors in snapshot.tensors.items())
    yield "state.json", _state(snapshot)


def _state(snapshot: Snapshot) -> bytes:
    state = {
        "progress": asdict(snapshot.progress),
        **snapshot.measured,
        **({"speed": snapshot.speed} if snapshot.speed else {}),
        "versions": {"distmgcd": __version__, "torch": torch.__version__, "python": platform.python_version()},
    }
    return strict_json.dumps(state, indent=1).encode()


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


def _flat_state(learner: Learner) -> Iterator[tuple[str, Tensor]]:
    for grid, optimizer in enumerate(learner.optimizers):
        for position, parameter in enumerate(optimizer.param_groups[0]["params"]):
            for key, value in optimizer.state.get(parameter, {}).items():
                yield f"{grid}.{position}.{key}", value


def _copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    copies = {name: value.detach().to("cpu", copy=True) for name, value in tensors.items()}
    return {name: value.contiguous() for name, value in copies.items()}
