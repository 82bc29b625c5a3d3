"""What the networks of all grids see in an image: their feature maps, pooled to a few cells.

The image is box-averaged to every grid, goes through that grid's network, and the map of its last convolution, or the
maps of all of them, are max-pooled to at most cells x cells places, as Radford et al. 2016 (arXiv 1511.06434, section
5.1) pool the maps of a discriminator before a linear classifier. Gao et al. 2017 (arXiv 1709.08868) classify by the
features of all grids together. Maps that are smaller than the cells stay as they are.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from distmgcd.core.energy import MultiGridEnergy, frozen
from distmgcd.core.grids import expand, pyramid

Layers = Literal["last", "all"]


def grid_maps(
    model: MultiGridEnergy, images: Tensor, *, sizes: Sequence[int], cells: int, layers: Layers = "last"
) -> list[Tensor]:
    """Maps [B, D, c, c] with c <= cells of images [B, C, S, S] in [-1, 1]: grids coarse to fine, layers bottom up."""
    found = []
    with torch.no_grad(), frozen(model):
        for energy, level in zip(model.grids, pyramid(images, sizes), strict=True):
            of_grid = energy.maps(level)
            found += [_pooled(each, cells) for each in (of_grid if layers == "all" else of_grid[-1:])]
    return found


def pixel_maps(images: Tensor, *, cells: int) -> list[Tensor]:
    """The pixels themselves, those of a block as the channels of its cell: one map [B, C b b, c, c] with b = S / c."""
    size = images.shape[-1]
    cells = next(number for number in range(min(cells, size), 0, -1) if size % number == 0)
    return [F.pixel_unshuffle(images, size // cells)]


def as_vectors(maps: Sequence[Tensor]) -> Tensor:
    """All values of all maps in one row an image: [B, sum of D c c]."""
    return torch.cat([each.flatten(1) for each in maps], 1)


def as_one_map(maps: Sequence[Tensor]) -> Tensor:
    """All maps as channels of one [B, sum of D, c, c] of the largest c; smaller ones are enlarged."""
    size = max(each.shape[-1] for each in maps)
    return torch.cat([_enlarged(each, size) for each in maps], 1)


def _pooled(maps: Tensor, cells: int) -> Tensor:
    return maps if maps.shape[-1] <= cells else F.adaptive_max_pool2d(maps, cells)


def _enlarged(maps: Tensor, size: int) -> Tensor:
    return expand(maps, size) if size % maps.shape[-1] == 0 else F.interpolate(maps, (size, size))
