"""Fresh samples of a model, by one worker or by all of them, and where their chains start."""

import numpy as np
import torch
from torch import Tensor

from distmgcd.config import Config
from distmgcd.core.energy import MultiGridEnergy
from distmgcd.core.synthesis import StartDistribution, draw_samples
from distmgcd.data import ImageSet, shard
from distmgcd.models.assemble import make_executor, make_sampling_langevin
from distmgcd.workers.collectives import Worker


def fresh_samples(
    model: MultiGridEnergy, starts: StartDistribution, num_samples: int, config: Config, worker: Worker, *, seed: int
) -> list[Tensor]:
    """Samples 0 .. num_samples - 1 at every grid, on the CPU: G of [num_samples, C, s, s].

    All workers call it, each draws its share.
    """
    block = config.learning.block_size or 1
    blocks = torch.arange(num_samples).split(block)
    own = shard(len(blocks), worker.rank, worker.world_size)
    mine = torch.cat([torch.arange(0), *blocks[own]])
    levels = sample_in_batches(model, starts, mine, config, seed=seed, device=worker.device)
    return [worker.gather(level).cpu() for level in levels]


def sample_in_batches(
    model: MultiGridEnergy,
    starts: StartDistribution,
    samples: Tensor,
    config: Config,
    *,
    seed: int,
    device: torch.device,
) -> list[Tensor]:
    """The samples of the given numbers at every grid, a batch at a time so that memory stays bounded."""
    how = {"sizes": config.grids.sizes, "langevin": make_sampling_langevin(config), "executor": make_executor(config)}
    batches = [
        draw_samples(model, starts, batch, seed=seed, start=config.start.of_samples, device=device, **how)
        for batch in samples.split(config.learning.block_size or config.learning.global_batch_size)
    ]
    return [torch.cat(level) for level in zip(*batches, strict=True)]


def start_distribution(images: ImageSet, *, rows_at_once: int = 1024) -> StartDistribution:
    """The distribution of the 1x1 versions of all training images."""
    means = [images.images[first : first + rows_at_once].mean((2, 3)) for first in range(0, len(images), rows_at_once)]
    return StartDistribution.of(torch.from_numpy(np.concatenate(means)))


def as_floats(images: np.ndarray) -> Tensor:
    """uint8 [N, C, S, S] to float in (-1, 1), at the middle of each of the 256 levels."""
    return (torch.from_numpy(np.array(images)) + 0.5) / 128.0 - 1.0
