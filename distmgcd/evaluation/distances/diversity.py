"""Diversity: how far apart images are from one another.

    diversity = mean_{i != j} |x_i - x_j|                                              x: [N, D]

Much below that of data: the model draws the same few images. Much above: noise.
"""

import torch
from torch import Tensor

from distmgcd.evaluation.neighbours.nearest import squared_distances

_ROWS_AT_ONCE = 512


def mean_pairwise_distance(x: Tensor) -> float:
    """Euclidean, of all pairs of different rows of [N, D], uint8 or floating-point. Raises ValueError below 2."""
    if len(x) < 2:
        raise ValueError(f"Pairs need at least 2 images, but there is {len(x)}.")
    total = sum(_sum_of_distances(x[rows], x[rows[0] :]) for rows in torch.arange(len(x)).split(_ROWS_AT_ONCE))
    return 2.0 * total / (len(x) * (len(x) - 1))


def _sum_of_distances(rows: Tensor, on: Tensor) -> float:
    """Of the pairs (i, j), i < j, with i in rows; on starts with the same rows."""
    distances = squared_distances(rows.double(), on.double()).sqrt()
    return float(distances.triu(diagonal=1).sum())
