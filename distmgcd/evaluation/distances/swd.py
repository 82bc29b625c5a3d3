"""Sliced Wasserstein distance of samples to images: in pixels at every grid.

    SW(P, Q) = mean over unit directions t of W1(<t, x>, <t, y>)            x ~ P [N, D], y ~ Q [M, D]
    W1(a, b) = integral over q in (0, 1) of |a's quantile at q - b's quantile at q|

Images are [N, C, s, s] with values in [-1, 1]. The distance of N samples to M images is never 0: even two
halves of one data set stand apart by their sampling error, so print that beside it, with N, M and the
number of directions. Reports print 1000 SW. Source: Rabin, Peyre, Delon, Bernot 2011.
"""

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

NUM_DIRECTIONS = 512
# Projections held at once, of samples and of images together: 32 MB, and as much again while they are sorted.
_PROJECTIONS_AT_ONCE = 1 << 23


@torch.no_grad()
def sliced_wasserstein(samples: Tensor, data: Tensor, *, num_directions: int = NUM_DIRECTIONS, seed: int = 0) -> float:
    """Sliced 1-Wasserstein distance of two sets of images, in units of pixel values; N and M may differ.

    samples: [N, C, s, s], data: [M, C, s, s]. Exact along each direction; the directions come from the seed, so
    the same two sets give the same number. A pixel that is not a number makes the distance nan. Computed on the
    device of the samples. Raises ValueError if a set is empty or the shapes of single images differ.
    """
    if len(samples) == 0 or len(data) == 0 or samples.shape[1:] != data.shape[1:]:
        raise ValueError(
            f"Two sets of images of one shape are needed, but the samples are {list(samples.shape)} "
            f"and the data {list(data.shape)}; give at least one image each and pool them to one size."
        )
    of_samples, of_data = (project(images, num_directions, seed) for images in (samples, data.to(samples.device)))
    return distance_of_projections(of_samples, of_data)


def project(images: Tensor, num_directions: int = NUM_DIRECTIONS, seed: int = 0) -> Tensor:
    """The values of images [N, C, s, s] along random unit vectors: [N, num_directions].

    They are all that a distance needs of images: much less than these, and they can be made a batch at a time.
    """
    values = images.flatten(1).float()
    return values @ directions(values.shape[1], num_directions, seed).to(values.device).T


def distance_of_projections(x: Tensor, y: Tensor) -> float:
    """The distance of two sets of images from their projections [N, D] and [M, D]; nan where one is nan."""
    if x.isnan().any() or y.isnan().any():
        return math.nan  # sorting would hide it among the largest values
    chunks = zip(*(values.T.split(_at_once(len(x) + len(y))) for values in (x, y)), strict=True)
    return float(sum(_wasserstein(a.contiguous(), b.contiguous()).sum() for a, b in chunks)) / x.shape[1]


def _at_once(num_images: int) -> int:
    """Directions."""
    return max(1, _PROJECTIONS_AT_ONCE // num_images)


@lru_cache(maxsize=8)
def directions(num_values: int, num_directions: int, seed: int) -> Tensor:
    """Uniform unit vectors [num_directions, num_values], the same on every device."""
    normal = torch.randn(num_directions, num_values, generator=torch.Generator().manual_seed(seed))
    return normal / normal.norm(dim=1, keepdim=True)


def _wasserstein(a: Tensor, b: Tensor) -> Tensor:
    """Exact W1 of the empirical distributions in each row: [D, N] and [D, M] to [D], summed in float64."""
    widths, in_a, in_b = _steps_of_both(a.shape[1], b.shape[1], a.device)
    a, b = _sort_rows(a), _sort_rows(b)
    return (a[:, in_a] - b[:, in_b]).abs().double() @ widths


def _sort_rows(values: Tensor) -> Tensor:
    """The values [D, N] in rising order in each row."""
    if values.device.type == "cpu":  # NumPy's sort, which we only need values from, is 16 times as fast
        return torch.from_numpy(np.sort(values.numpy(), axis=1))
    return values.sort(dim=1).values


def _steps_of_both(n: int, m: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """The pieces of (0, 1) on which the quantiles of n and of m values are both constant.

    Returns their widths, and which of the n and of the m sorted values each piece takes. In units of
    1 / (n m) the ends of the pieces are the multiples of m and of n: whole numbers, so nothing is rounded.
    """
    ends = torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]).unique().to(device)
    widths = ends.diff(prepend=ends.new_zeros(1)).double() / (n * m)
    return widths, (ends - 1) // m, (ends - 1) // n
