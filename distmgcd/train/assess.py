"""What a model is worth: fresh samples of it, drawn by all workers, against held-out images."""

import numpy as np
import torch
from torch import Tensor

from distmgcd.config import Config
from distmgcd.core.energy import MultiGridEnergy
from distmgcd.core.synthesis import StartDistribution, draw_samples
from distmgcd.data import ImageSet
from distmgcd.evaluate.swd import pixel_distances
from distmgcd.train.assemble import make_langevin
from distmgcd.train.worker import Worker

EVALUATION_SEED = 1  # of the chains of fresh samples: the same for every run and trial


def fresh_samples(
    model: MultiGridEnergy, starts: StartDistribution, num_samples: int, config: Config, worker: Worker
) -> list[Tensor]:
    """Samples 0 .. num_samples - 1 at every grid, on the CPU: G of [num_samples, C, s, s].

    All workers call it, each draws its share.
    """
    mine = torch.arange(num_samples).tensor_split(worker.world_size)[worker.rank]
    levels = sample_in_batches(model, starts, mine, config, seed=EVALUATION_SEED, device=worker.device)
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
    sizes, langevin = config.grids.sizes, make_langevin(config)
    batches = [
        draw_samples(model, starts, batch, seed=seed, sizes=sizes, langevin=langevin, device=device)
        for batch in samples.split(config.learning.global_batch_size)
    ]
    return [torch.cat(level) for level in zip(*batches, strict=True)]


def distances(samples: Tensor, held_out: ImageSet, config: Config) -> dict[str, float]:
    """Sliced Wasserstein distance of samples [N, C, S, S] to the first N held-out images, per grid {size: distance}."""
    data = as_floats(held_out.images[: len(samples)])
    values = pixel_distances(samples.clamp(-1.0, 1.0), data, sizes=config.grids.sizes)
    return {str(size): value for size, value in zip(config.grids.sizes, values, strict=True)}


def as_floats(images: np.ndarray) -> Tensor:
    """uint8 [N, C, S, S] to float in (-1, 1), at the middle of each of the 256 levels."""
    return (torch.from_numpy(np.array(images)) + 0.5) / 128.0 - 1.0


def start_distribution(images: ImageSet, *, rows_at_once: int = 1024) -> StartDistribution:
    """The distribution of the 1x1 versions of all training images."""
    means = [images.images[first : first + rows_at_once].mean((2, 3)) for first in range(0, len(images), rows_at_once)]
    return StartDistribution.of(torch.from_numpy(np.concatenate(means)))
