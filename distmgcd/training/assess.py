"""What a model is worth: fresh samples of it, drawn by all workers, against held-out images."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from distmgcd.config import Config
from distmgcd.core.energy import MultiGridEnergy
from distmgcd.core.synthesis import StartDistribution, draw_samples
from distmgcd.data import ImageSet, shard
from distmgcd.evaluate.swd import pixel_distances
from distmgcd.training.assemble import make_sampling_langevin, make_walker
from distmgcd.training.worker import Worker


class Distances(NamedTuple):
    """Per grid {size: value}, or {name: value}: the mean over several sets of images, and their standard deviation."""

    mean: dict[str, float]
    spread: dict[str, float]


# Philox streams number an epoch by the second half of their key (data/order.py). No epoch has this number: by that of
# epoch 0 a draw from the bank would be of the chains that learning walked first.
_OF_BANK = 1 << 63


def evaluation_seeds(config: Config) -> range:
    """The seeds of fresh samples, one a draw: the same for every run and trial."""
    return range(1, 1 + config.evaluate.num_draws)


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
    how = {"sizes": config.grids.sizes, "langevin": make_sampling_langevin(config), "walker": make_walker(config)}
    batches = [
        draw_samples(model, starts, batch, seed=seed, start=config.start.of_samples, device=device, **how)
        for batch in samples.split(config.learning.block_size or config.learning.global_batch_size)
    ]
    return [torch.cat(level) for level in zip(*batches, strict=True)]


def distances(sets: Sequence[Tensor], held_out: ImageSet, config: Config) -> Distances:
    """Sliced Wasserstein distance of each set [N, C, S, S] to the first N held-out images."""
    data = as_floats(held_out.images[: len(sets[0])])
    sizes = config.evaluation_sizes
    values = [pixel_distances(images.clamp(-1.0, 1.0), data, sizes=sizes) for images in sets]
    return Distances(*(dict(zip(map(str, sizes), x, strict=True)) for x in mean_and_spread(values)))


def mean_and_spread(values: Sequence) -> tuple[Any, Any]:
    """Over the first axis: the mean, and the standard deviation, 0 of one value."""
    found = torch.tensor(values, dtype=torch.float64)
    spread, mean = torch.std_mean(found, dim=0, correction=min(1, len(found) - 1))
    return mean.tolist(), spread.tolist()


def draws_of_data(images: ImageSet, config: Config) -> list[Tensor]:
    """As many sets of training images as there are draws of samples, and as large where there are so many."""
    return [as_floats(images.images[rows]) for rows in _random_rows(len(images), config)]


def draws_of_bank(bank: Tensor, config: Config) -> list[Tensor]:
    """The same of persistent chains [M, C, S, S]."""
    return [bank[rows] for rows in _random_rows(len(bank), config, stream=_OF_BANK)]


def _random_rows(num_rows: int, config: Config, *, stream: int = 0) -> list[np.ndarray]:
    num = min(config.evaluate.num_samples, num_rows)
    keys = [np.array([seed, stream], np.uint64) for seed in evaluation_seeds(config)]
    orders = (np.random.Generator(np.random.Philox(key=key)).random(num_rows) for key in keys)
    return [np.sort(np.argsort(order)[:num]) for order in orders]


def as_floats(images: np.ndarray) -> Tensor:
    """uint8 [N, C, S, S] to float in (-1, 1), at the middle of each of the 256 levels."""
    return (torch.from_numpy(np.array(images)) + 0.5) / 128.0 - 1.0


def start_distribution(images: ImageSet, *, rows_at_once: int = 1024) -> StartDistribution:
    """The distribution of the 1x1 versions of all training images."""
    means = [images.images[first : first + rows_at_once].mean((2, 3)) for first in range(0, len(images), rows_at_once)]
    return StartDistribution.of(torch.from_numpy(np.concatenate(means)))


def _of_noise(config: Config) -> str:
    factor = config.langevin.sample_noise
    return "" if factor == 1.0 else f", the noise of the finest grid times {factor:g}"


def protocol(config: Config, images: ImageSet, held_out: ImageSet) -> dict[str, str]:
    """What distances were measured on, in words."""
    num_samples, num_draws = config.evaluate.num_samples, config.evaluate.num_draws
    start = {"climb": "from 1x1 starts drawn from their distribution", "noise": "from uniform noise"}
    bank = f"up to {num_samples} random persistent chains a draw, where they ended; no fresh samples"
    return {
        "metric": "sliced 1-Wasserstein distance of whole images, box-averaged to sizes "
        f"{list(config.evaluation_sizes)}, 512 directions, pixels in [-1, 1]",
        "draws": f"mean and standard deviation over {num_draws} draws, all against the same reference",
        "samples": f"{num_samples} fresh chains a draw {start[config.start.of_samples]}, averaged weights, "
        f"{config.per_grid('langevin.num_steps')} steps a grid{_of_noise(config)}",
        **({"bank": bank} if config.start.kind == "persistent" else {}),
        "reference": f"{min(num_samples, len(held_out))} images of {held_out.name}",
        "data": f"{min(num_samples, len(images))} random images a draw of {images.name}",
    }
