"""Where chains start, and how they climb: the multi-grid sampler (Gao et al. 2017, section 3.2).

    x_1                                  the 1x1 version of an image, or a draw from their distribution
    x_s = K Langevin steps of U_s, from expand(x_(s-1), s)            for every grid s, coarse to fine

The same loop with other starts gives the methods that multi-grid is compared with. Where the chain of grid s starts:

    multigrid    expand(x_(s-1), s)                  Gao et al. 2017
    single       expand(x_1, s), of the only grid    the same without grids between
    data         the observed image at grid s        CD-K (Hinton 2002)
    persistent   where the chain of this image at this grid ended when it was last walked (Tieleman 2008)
    noise        uniform in [-1, 1]                  short-run (Nijkamp et al. 2019)

One chain per image: images [B, C, s, s] in, images [B, C, s, s] out, at every grid.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from distmgcd.core.energy import MultiGridEnergy, frozen
from distmgcd.core.execution.executors import PLAIN, ChainExecutor
from distmgcd.core.grids import expand
from distmgcd.core.langevin import FixedPixels, Langevin, StepInfo, chain_end, cooled
from distmgcd.core.noise import Purpose, normals, random_words, uniform

NoiseOfGrid = Callable[[int, tuple[int, ...], int], Iterable[Tensor]]

StartKind = Literal["multigrid", "data", "persistent", "single", "noise"]
SampleStart = Literal["climb", "noise"]

# Where the chains of a grid start: (its number, what the grid below gives, expanded [B, C, s, s]) -> [B, C, s, s]
StartOfGrid = Callable[[int, Tensor], Tensor]


def from_below(grid: int, expanded: Tensor) -> Tensor:
    """Where the chain of the next coarser grid ended; at the coarsest, the 1x1 version of the image."""
    return expanded


def from_images(images: Sequence[Tensor]) -> StartOfGrid:
    """The observed images G of [B, C, s, s]."""
    return lambda grid, _: images[grid]


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
    has_chain: Tensor  # bool [B]; an image that has no chain yet starts one as the multi-grid sampler does

    def start(self, grid: int, expanded: Tensor) -> Tensor:
        return torch.where(self.has_chain[:, None, None, None], self.images[grid], expanded)

    def at(self, part: slice | Tensor) -> "PreviousEnds":
        return PreviousEnds([images[part] for images in self.images], self.has_chain[part])


@dataclass(frozen=True)
class NoiseStart:
    """Uniform noise in [-1, 1], of every grid its own."""

    images: Tensor  # int64 [B], as of ChainNoise
    seed: int
    update: int = 0
    purpose: Purpose = Purpose.NOISE_START

    def __call__(self, grid: int, expanded: Tensor) -> Tensor:
        step = torch.zeros(1, dtype=torch.int64, device=self.images.device)
        now = {"seed": self.seed, "purpose": self.purpose, "update": self.update, "grid": grid}
        num_values = expanded.shape[1:].numel()
        words = random_words(self.images, step, num_values, **now)[0, :, :num_values]
        return uniform(words).mul(2.0).sub(1.0).view(expanded.shape)


def training_start(
    kind: StartKind, noise: ChainNoise, *, observed: Sequence[Tensor], previous: PreviousEnds | None
) -> StartOfGrid:
    """Where the chains of an update start, with noise as they walk with.

    observed: G of [B, C, s, s], without the noise that learning adds to them. previous: what persistent chains need.
    """
    if kind == "data":
        return from_images(observed)
    if kind == "noise":
        return NoiseStart(noise.images, noise.seed, noise.update)
    return from_below if previous is None else previous.start


class Synthesis(NamedTuple):
    """The ends of the chains at every grid, and what the last step of each did."""

    images: list[Tensor]  # G of [B, C, s, s]
    last_steps: list[StepInfo]  # G


def synthesise(
    model: MultiGridEnergy,
    start_images: Tensor,
    noise: NoiseOfGrid,
    *,
    sizes: Sequence[int],
    langevin: Sequence[Langevin],
    start: StartOfGrid = from_below,
    fixed: Sequence[FixedPixels] | None = None,
    executor: ChainExecutor = PLAIN,
) -> Synthesis:
    """Walk the chains of all grids, as sample_grids."""
    ends = sample_grids(
        model, start_images, noise, sizes=sizes, langevin=langevin, start=start, fixed=fixed, executor=executor
    )
    return Synthesis(*map(list, zip(*ends, strict=True)))


def sample_grids(
    model: MultiGridEnergy,
    start_images: Tensor,
    noise: NoiseOfGrid,
    *,
    sizes: Sequence[int],
    langevin: Sequence[Langevin],
    start: StartOfGrid = from_below,
    fixed: Sequence[FixedPixels] | None = None,
    executor: ChainExecutor = PLAIN,
) -> Iterator[tuple[Tensor, StepInfo]]:
    """Walk the chains of the grids, coarse to fine, from the start_images [B, C, 1, 1] up or from where start has them.

    Yields where those of each grid ended [B, C, s, s], and their last step; the next grid walks when it is asked for.
    fixed: of every grid, pixels that its chains leave as they are. Give it the bare model: a DDP wrapper would
    synchronise at every step. Only the grid that walks is frozen, so that a gradient may be taken in between.
    """
    x = start_images
    for grid, (energy, size, settings) in enumerate(zip(model.grids, sizes, langevin, strict=True)):
        x = start(grid, expand(x, size))
        with frozen(energy):
            z = cooled(noise(grid, tuple(x.shape[1:]), settings.num_steps), settings)
            x, info = executor.run_chain(energy, x, z, settings, fixed[grid] if fixed else None)
        yield x, info


def iter_grid_steps(
    model: MultiGridEnergy,
    start_images: Tensor,
    noise: NoiseOfGrid,
    *,
    sizes: Sequence[int],
    langevin: Sequence[Langevin],
    start: StartOfGrid = from_below,
    fixed: Sequence[FixedPixels] | None = None,
    executor: ChainExecutor = PLAIN,
) -> Iterator[tuple[int, int, Tensor, StepInfo | None]]:
    """Every step of sample_grids: (grid, step, images [B, C, s, s] after it, what it did).

    Step 0 is where a grid's chains start and did nothing (None); the last one is followed by the clamp, where there
    is one. The model is frozen until the generator ends.
    """
    x = start_images
    with frozen(model):
        for grid, (energy, size, settings) in enumerate(zip(model.grids, sizes, langevin, strict=True)):
            x = start(grid, expand(x, size))
            yield grid, 0, x, None
            z = cooled(noise(grid, tuple(x.shape[1:]), settings.num_steps), settings)
            fixed_here = fixed[grid] if fixed else None
            steps = executor.iter_steps(energy, x, z, settings, fixed_here)
            for step, (x, info) in enumerate(steps, start=1):
                if step == settings.num_steps:
                    x = chain_end(x, settings, fixed_here)
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
    start: SampleStart = "climb",
    device: torch.device | str = "cpu",
    executor: ChainExecutor = PLAIN,
) -> list[Tensor]:
    """Fresh samples at every grid: G of [len(samples), C, s, s], nominally in [-1, 1].

    samples: int64 [B], the numbers of the samples. Number 7 is the same picture whatever else is drawn
    with it (but for batch norm, whose chains are coupled). start: up from drawn 1x1 versions, or at every grid from
    uniform noise; nothing of a training image is in either.
    """
    start_images, samples = starts.draw(samples, seed=seed).to(device), samples.to(device)
    noise = ChainNoise(samples, seed, purpose=Purpose.SAMPLE_CHAIN)
    start_of_grid = NoiseStart(samples, seed, purpose=Purpose.SAMPLE_NOISE_START) if start == "noise" else from_below
    return synthesise(
        model, start_images, noise, sizes=sizes, langevin=langevin, start=start_of_grid, executor=executor
    ).images
