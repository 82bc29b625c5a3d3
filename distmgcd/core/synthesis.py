"""Where chains start, and how they climb: the multi-grid sampler (Gao et al. 2017, section 3.2).

    x_1                                  the 1x1 version of an image, or a draw from their distribution
    x_s = K Langevin steps of U_s, from expand(x_(s-1), s)            for every grid s, coarse to fine

One chain per image: images [B, C, s, s] in, images [B, C, s, s] out, at every grid.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from distmgcd.core.energy import MultiGridEnergy, frozen
from distmgcd.core.fast import PLAIN, Walker
from distmgcd.core.grids import expand
from distmgcd.core.langevin import Langevin, StepInfo, chain_end
from distmgcd.core.noise import Purpose, normals, random_words, uniform

NoiseOfGrid = Callable[[int, tuple[int, ...], int], Iterable[Tensor]]


@dataclass(frozen=True)
class ChainNoise:
    """The noise of the chains of some images: noise(grid, shape, num_steps) yields [B, *shape] a step."""

    images: Tensor  # int64 [B], the index of each image in the data set, or of each sample
    seed: int
    update: int = 0
    purpose: Purpose = Purpose.CHAIN

    def __call__(self, grid: int, shape: tuple[int, ...], num_steps: int) -> Iterable[Tensor]:
        return normals(
            self.images, shape, num_steps, seed=self.seed, purpose=self.purpose, update=self.update, grid=grid
        )


class PreviousEnds(NamedTuple):
    """Where the persistent chains of some images ended when they were last walked."""

    images: Sequence[Tensor]  # G of [B, C, s, s]
    walked: Tensor  # bool [B]; an image that has no chain yet starts one as the multi-grid sampler does

    def at(self, part: slice | Tensor) -> "PreviousEnds":
        return PreviousEnds([images[part] for images in self.images], self.walked[part])


class Synthesis(NamedTuple):
    """The ends of the chains at every grid, and what the last step of each did."""

    images: list[Tensor]  # G of [B, C, s, s]
    last_steps: list[StepInfo]  # G


def synthesise(
    model: MultiGridEnergy,
    seeds: Tensor,
    noise: NoiseOfGrid,
    *,
    sizes: Sequence[int],
    langevin: Sequence[Langevin],
    previous: PreviousEnds | None = None,
    walker: Walker = PLAIN,
) -> Synthesis:
    """Climb from the seeds [B, C, 1, 1] through all grids, or go on from previous ends. The model is frozen meanwhile.

    Give it the bare model: a DDP wrapper would synchronise at every step.
    """
    x, ends = seeds, []
    with frozen(model):
        for grid, (energy, size, settings) in enumerate(zip(model.grids, sizes, langevin, strict=True)):
            x = start_of(grid, x, size, previous)
            x, info = walker.run_chain(energy, x, noise(grid, tuple(x.shape[1:]), settings.num_steps), settings)
            ends.append((x, info))
    return Synthesis(*map(list, zip(*ends, strict=True)))


def start_of(grid: int, x: Tensor, size: int, previous: PreviousEnds | None) -> Tensor:
    """Where the chains of a grid start, from the ends of the grid below: [B, C, size, size]."""
    x = expand(x, size)
    if previous is None:
        return x
    return torch.where(previous.walked[:, None, None, None], previous.images[grid], x)


def climb(
    model: MultiGridEnergy,
    seeds: Tensor,
    noise: NoiseOfGrid,
    *,
    sizes: Sequence[int],
    langevin: Sequence[Langevin],
    previous: PreviousEnds | None = None,
    walker: Walker = PLAIN,
) -> Iterator[tuple[int, int, Tensor, StepInfo | None]]:
    """Every step of synthesise: (grid, step, images [B, C, s, s] after it, what it did).

    Step 0 is where a grid's chains start and did nothing (None); the last one is followed by the clamp, where there
    is one. The model is frozen until the generator ends.
    """
    x = seeds
    with frozen(model):
        for grid, (energy, size, settings) in enumerate(zip(model.grids, sizes, langevin, strict=True)):
            x = start_of(grid, x, size, previous)
            yield grid, 0, x, None
            steps = walker.walk(energy, x, noise(grid, tuple(x.shape[1:]), settings.num_steps), settings)
            for step, (x, info) in enumerate(steps, start=1):
                if step == settings.num_steps:
                    x = chain_end(x, settings)
                yield grid, step, x, info


@dataclass(frozen=True)
class StartDistribution:
    """The joint histogram of the training images' 1x1 versions, 256 levels a channel (section 3.2).

    levels: uint8 [M, C], the occupied cells; counts: int64 [M], how many images fell into each.
    """

    levels: Tensor
    counts: Tensor

    @staticmethod
    def of(mean_levels: Tensor) -> "StartDistribution":
        """From the mean pixel value of every image, float [N, C] in [0, 255]."""
        cells = mean_levels.round().clamp(0, 255).to(torch.uint8)
        return StartDistribution(*torch.unique(cells, dim=0, return_counts=True))

    def draw(self, samples: Tensor, *, seed: int) -> Tensor:
        """1x1 starts [len(samples), C, 1, 1] in [-1, 1]; a sample's start depends on its number and the seed only.

        samples: int64 [B]. Uniform inside a cell of the histogram.
        """
        channels = self.levels.shape[1]
        words = random_words(
            samples, torch.zeros(1, dtype=torch.int64), 1 + channels, seed=seed, purpose=Purpose.SAMPLE_START
        )[0]
        below = torch.cumsum(self.counts, 0).double() / self.counts.sum()
        cell = torch.searchsorted(below, uniform(words[:, 0]).double())
        colour = self.levels[cell].float() + uniform(words[:, 1 : 1 + channels])
        return (colour / 128.0 - 1.0)[:, :, None, None]  # as learning.observe maps levels


def draw_samples(
    model: MultiGridEnergy,
    starts: StartDistribution,
    samples: Tensor,
    *,
    seed: int,
    sizes: Sequence[int],
    langevin: Sequence[Langevin],
    device: torch.device | str = "cpu",
    walker: Walker = PLAIN,
) -> list[Tensor]:
    """Fresh samples at every grid: G of [len(samples), C, s, s], nominally in [-1, 1].

    samples: int64 [B], the numbers of the samples. Number 7 is the same picture whatever else is drawn
    with it (but for batch norm, whose chains are coupled).
    """
    seeds = starts.draw(samples, seed=seed).to(device)
    noise = ChainNoise(samples.to(device), seed, purpose=Purpose.SAMPLE_CHAIN)
    return synthesise(model, seeds, noise, sizes=sizes, langevin=langevin, walker=walker).images
