"""A trained model, ready to draw samples: `distmgcd.load(run).sample(64)`."""

import hashlib
from dataclasses import dataclass
from shlex import quote
from typing import Literal

import torch
from torch import Tensor

from distmgcd.config import Config
from distmgcd.core.energy import MultiGridEnergy
from distmgcd.core.inpainting import inpaint
from distmgcd.core.persistent import bank
from distmgcd.core.synthesis import StartDistribution
from distmgcd.errors import UserError
from distmgcd.models.assemble import make_executor, make_model, make_sampling_langevin
from distmgcd.models.run_images import with_data
from distmgcd.models.sampling import sample_in_batches
from distmgcd.runs import checkpoint, learner_state, retention
from distmgcd.runs.run_folder import Run

Weights = Literal["ema", "raw"]  # averaged over updates, or as the last update left them
_LARGEST = 1.001  # of a pixel that is given; what resizing adds to 1 is no mistake
WEIGHT_FILES: dict[Weights, str] = {"ema": "ema.safetensors", "raw": "model.safetensors"}


@dataclass(frozen=True)
class TrainedModel:
    """A checkpoint of a run: weights, the distribution of 1x1 starts, and persistent chains if it has some."""

    config: Config
    update: int  # updates done
    model: MultiGridEnergy
    starts: StartDistribution
    device: torch.device
    checkpoint: str = ""  # its name
    weights: Weights = "ema"
    checksum: str = ""  # SHA-256 of the file of the weights
    run: str = ""  # its folder, as it was given
    bank: Tensor | None = None  # [M, C, S, S] on the CPU: where the run's persistent chains ended, if it has some

    def __repr__(self) -> str:
        of = f"{self.run!r}, " if self.run else ""
        return f"TrainedModel({of}update {self.update}, weights {self.weights}, on {self.device})"

    def sample(self, num: int, *, seed: int = 0) -> Tensor:
        """Fresh samples [num, C, S, S] in [-1, 1], on the CPU. Sample i is a function of (seed, i)."""
        return self.sample_pyramid(num, seed=seed)[-1]

    def sample_pyramid(self, num: int, *, seed: int = 0) -> list[Tensor]:
        """The same samples at every grid, coarse to fine: G of [num, C, s, s]."""
        levels = sample_in_batches(
            self.model, self.starts, torch.arange(num), self.config, seed=seed, device=self.device
        )
        return [level.clamp(-1.0, 1.0).cpu() for level in levels]

    def inpaint(self, images: Tensor, hidden: Tensor, *, indices: Tensor | None = None, seed: int = 0) -> Tensor:
        """The images [N, C, S, S] in [-1, 1] with their hidden pixels, bool [N, 1, S, S], filled; on the CPU.

        What fills image i is a function of its known pixels and of (seed, indices[i]), or (seed, i) without indices.
        Raises UserError for images or masks of another kind.
        """
        config = self.config
        _check_images(images, channels=config.data.channels, size=config.image_size)
        _check_hidden(hidden, num=len(images), size=config.image_size)
        indices = torch.arange(len(images)) if indices is None else indices
        how = {
            "sizes": config.grids.sizes,
            "langevin": make_sampling_langevin(config),
            "executor": make_executor(config),
        }
        batch_size, start = config.learning.block_size or config.learning.global_batch_size, config.start.of_samples
        parts = zip(*(values.split(batch_size) for values in (images, hidden, indices)), strict=True)
        filled = [
            inpaint(self.model, *(values.to(self.device) for values in part), seed=seed, start=start, **how)[-1]
            for part in parts
        ]
        return torch.cat(filled).clamp(-1.0, 1.0).cpu()


def load(
    run: str,
    *,
    which: str = "end",
    device: torch.device | str | None = None,
    weights: Weights = "ema",
    data: str | None = None,
) -> TrainedModel:
    """Load a run by the path of its folder (a local path, s3://, ...), an exported one, or `pretrained:NAME`.

    which: "end", the checkpoint that a finished run ended with (checkpoint.end_with), which is the newest of any other;
    "newest"; "best" (by checkpoint.metric); or the checkpoint of an update, "update_000200" or "200".
    device: None takes a GPU where there is one. data: where the run's images are, for what is measured against them;
    None: at its data.path. Raises UserError if there is no such good checkpoint.
    """
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    opened = Run.open(run)
    config = with_data(opened.config(), data)
    found = retention.find(opened.store, str(which), metric=config.checkpoint.metric)
    if found is None and checkpoint.names(opened.store):
        raise UserError(f"Every checkpoint of the run {run} is damaged; `distmgcd verify {quote(run)}` says how.")
    if found is None:
        raise UserError(
            f"The run {run} has no good checkpoint; train it until the next one "
            f"(checkpoint.every={config.checkpoint.every} updates)."
        )
    model = make_model(config)
    learner_state.load_weights(model, found, WEIGHT_FILES[weights])
    has_chains = config.start.kind == "persistent" and not found.is_exported
    return TrainedModel(
        config,
        found.progress.update,
        model.to(device).eval(),
        found.starts(),
        device,
        checkpoint=found.name,
        weights=weights,
        run=run,
        checksum=hashlib.sha256(found.files[WEIGHT_FILES[weights]]).hexdigest(),
        bank=bank(found.chains(), channels=config.data.channels, size=config.image_size) if has_chains else None,
    )


# What a caller can get wrong


def _check_images(images: Tensor, *, channels: int, size: int) -> None:
    """Raises UserError."""
    if images.dim() != 4 or images.shape[1:] != (channels, size, size):
        raise UserError(
            f"images must be [N, {channels}, {size}, {size}], as the run's are, but are {list(images.shape)}; resize "
            "or reshape them."
        )
    if not images.is_floating_point():
        raise UserError(
            f"images must be floating-point numbers from -1 to 1, but are {images.dtype}; if they hold 0 to 255, give "
            "(images + 0.5) / 128 - 1."
        )
    if len(images) and not (images.min() >= -_LARGEST and images.max() <= _LARGEST):  # NaN is in no range
        low, high = images.min().item(), images.max().item()
        raise UserError(
            f"images must be numbers from -1 to 1, but range from {low:g} to {high:g}; if they hold 0 to 255, give "
            "(images + 0.5) / 128 - 1."
        )


def _check_hidden(hidden: Tensor, *, num: int, size: int) -> None:
    """Raises UserError."""
    if hidden.dtype != torch.bool or list(hidden.shape) != [num, 1, size, size]:
        raise UserError(
            f"hidden must be bool [{num}, 1, {size}, {size}], true where a pixel is hidden, but is {hidden.dtype} "
            f"{list(hidden.shape)}; give mask.bool(), and .expand({num}, 1, {size}, {size}) of one mask for all images."
        )
