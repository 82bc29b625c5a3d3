"""Chains in which only hidden pixels move, from the coarsest grid on (Gao et al. 2017, the section on inpainting).

At grid s a pixel is the average of a box of the finest ones, of which a share m_s is hidden. It is known if m_s = 0:
then its value is certain, and no chain moves it. All others move. They start at the average of what is known in the
box, and of what the next coarser grid says of the rest:

    k_s = pool(x where known, else 0)        x_1 = k_1 / (1 - m_1)                the mean of the known pixels
    start_s = m_s expand(x_(s-1)) + k_s                                           where m_s = 0, the pixel itself

A box with a single hidden pixel counts as hidden, for the other rule, known as soon as one pixel is, would hold coarse
pixels at values that they do not have. Nothing of a hidden pixel is in any start.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from distmgcd.core.energy import MultiGridEnergy
from distmgcd.core.execution.executors import PLAIN, ChainExecutor
from distmgcd.core.grids import pool, pyramid
from distmgcd.core.langevin import FixedPixels, Langevin
from distmgcd.core.noise import Purpose
from distmgcd.core.synthesis import (
    ChainNoise,
    NoiseStart,
    SampleStart,
    StartOfGrid,
    from_below,
    synthesise,
)


@dataclass(frozen=True)
class Known:
    """What is known of some images, at every grid, coarse to fine."""

    start_images: Tensor  # [B, C, 1, 1], the mean of the known pixels; 0 where there is none
    fixed: list[FixedPixels]  # G
    hidden_share: list[Tensor]  # G of [B, 1, s, s], m_s
    known_part: list[Tensor]  # G of [B, C, s, s], k_s

    @staticmethod
    def of(images: Tensor, hidden: Tensor, levels: Sequence[Tensor]) -> "Known":
        """images: [B, C, S, S]; hidden: bool [B, 1, S, S]; levels: G of [B, C, s, s], what is fixed of each grid."""
        known, shares = images.masked_fill(hidden, 0.0), hidden.to(images.dtype)
        sizes = [level.shape[-1] for level in levels]
        mean_share = pool(shares, 1)
        start_images = torch.where(mean_share < 1.0, pool(known, 1) / (1.0 - mean_share), 0.0)
        shares = [pool(shares, size) for size in sizes]
        fixed = [FixedPixels(level, share > 0.0) for level, share in zip(levels, shares, strict=True)]
        return Known(start_images, fixed, shares, [pool(known, size) for size in sizes])

    def start(self, start: StartOfGrid = from_below) -> StartOfGrid:
        """Where chains start that else would start as given, and that know this."""

        def of_grid(grid: int, expanded: Tensor) -> Tensor:
            mixed = self.hidden_share[grid] * expanded + self.known_part[grid]
            return self.fixed[grid].put_back(start(grid, mixed))

        return of_grid


def inpaint(
    model: MultiGridEnergy,
    images: Tensor,
    hidden: Tensor,
    indices: Tensor,
    *,
    seed: int,
    sizes: Sequence[int],
    langevin: Sequence[Langevin],
    start: SampleStart = "climb",
    executor: ChainExecutor = PLAIN,
) -> list[Tensor]:
    """The images with the hidden pixels filled by chains, at every grid: G of [B, C, s, s].

    images: [B, C, S, S] in [-1, 1], of which the hidden pixels decide nothing; hidden: bool [B, 1, S, S]; indices:
    int64 [B], where each image stands in its data set: what fills it depends on that and the seed, not on the others
    (but for batch norm). start: from the mean of the known pixels up, or at every grid from uniform noise.
    """
    known = Known.of(images, hidden, pyramid(images, sizes))
    noise = ChainNoise(indices, seed, purpose=Purpose.INPAINT_CHAIN)
    start_of_grid = NoiseStart(indices, seed, purpose=Purpose.INPAINT_NOISE_START) if start == "noise" else from_below
    return synthesise(
        model,
        known.start_images,
        noise,
        sizes=sizes,
        langevin=langevin,
        start=known.start(start_of_grid),
        fixed=known.fixed,
        executor=executor,
    ).images
