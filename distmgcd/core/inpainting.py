"""Chains that change hidden pixels only, from the coarsest grid on (Gao et al. 2017, the section on inpainting).

At grid s a pixel is the average of a box of pixels of the finest grid, of which a share m_s is hidden. If m_s = 0 it is
known, and its chain never changes it. All others start at a mixture of the known pixels of the box and the end of the
next coarser grid's chain, which stands for the hidden ones:

    k_s = pool(x where known, else 0)        x_1 = k_1 / (1 - m_1)                the mean of the known pixels
    start_s = m_s expand(x_(s-1)) + k_s                                           where m_s = 0, the pixel itself

A box with a single hidden pixel counts as hidden: if it counted as known, coarse pixels would be fixed at wrong values.
No start depends on a hidden pixel.
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
        """images: [B, C, S, S]; hidden: bool [B, 1, S, S]; levels: G of [B, C, s, s], values of fixed pixels."""
        known, shares = images.masked_fill(hidden, 0.0), hidden.to(images.dtype)
        sizes = [level.shape[-1] for level in levels]
        mean_share = pool(shares, 1)
        start_images = torch.where(mean_share < 1.0, pool(known, 1) / (1.0 - mean_share), 0.0)
        shares = [pool(shares, size) for size in sizes]
        fixed = [FixedPixels(level, share > 0.0) for level, share in zip(levels, shares, strict=True)]
        return Known(start_images, fixed, shares, [pool(known, size) for size in sizes])

    def start(self, start: StartOfGrid = from_below) -> StartOfGrid:
        """The starts of chains that know these pixels. start: where they would start if they did not."""

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

    images: [B, C, S, S] in [-1, 1]; values of hidden pixels have no influence. hidden: bool [B, 1, S, S]. indices:
    int64 [B], the index of each image in its data set: what fills an image depends on that and the seed, not on the
    other images (except with batch norm). start: "climb", from the mean of the known pixels and from grid to grid; or
    "noise", from uniform noise at every grid.
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
