"""Kernel distance: the squared maximum mean discrepancy of two sets of features, unbiased.

    k(x, y) = (x . y / D + 1)^3                                                        x: [N, D], y: [M, D]
    MMD^2   = mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j)

Its expectation is 0 for two sets of one distribution, whatever their size, so single values may be negative. Called KID
(Binkowski et al. 2018) in Inception's features. As there: the mean and the deviation over random subsets.
"""

from typing import NamedTuple

import torch
from torch import Tensor

NUM_SUBSETS = 100
LARGEST_SUBSET = 1000


class KernelDistance(NamedTuple):
    mean: float
    deviation: float  # over subsets
    subset_size: int


def kernel_distance(
    x: Tensor, y: Tensor, *, num_subsets: int = NUM_SUBSETS, subset_size: int | None = None, seed: int = 0
) -> KernelDistance:
    """subset_size: by default 1,000, or half of the smaller set, so that subsets differ. Raises ValueError below 2."""
    subset_size = subset_size or min(LARGEST_SUBSET, min(len(x), len(y)) // 2)
    if subset_size < 2:
        raise ValueError(f"A kernel distance needs at least 4 images of each, but there are {len(x)} and {len(y)}.")
    generator = torch.Generator().manual_seed(seed)
    values = []
    for _ in range(num_subsets):
        own, other = (f[torch.randperm(len(f), generator=generator)[:subset_size].to(f.device)] for f in (x, y))
        values.append(squared_mmd(own, other))
    found = torch.tensor(values, dtype=torch.float64)
    return KernelDistance(float(found.mean()), float(found.std(correction=0)), subset_size)


def squared_mmd(x: Tensor, y: Tensor) -> float:
    """Unbiased, of all of x and y; each at least 2. Sums in fp64."""
    within = sum(_off_diagonal_mean(_kernel(z, z)) for z in (x, y))
    return float(within - 2.0 * _kernel(x, y).mean())


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    base = (x @ y.T).double() / x.shape[1] + 1.0
    return base * base * base


def _off_diagonal_mean(kernel: Tensor) -> Tensor:
    return (kernel.sum() - kernel.trace()) / (len(kernel) * (len(kernel) - 1))
