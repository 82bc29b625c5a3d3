"""Precision and recall by k-nearest-neighbour manifolds (Kynkaanniemi et al. 2019).

    manifold(X) = union of the balls around x in X that reach to x's k-th nearest neighbour in X
    precision   = share of samples in the manifold of the data          are the samples like data?
    recall      = share of the data in the manifold of the samples      are all kinds of data there?

Of two sets of one distribution both are below 1 (about 0.8 to 0.9 at k = 3), so print them beside those of data.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from distmgcd.evaluation.neighbours.nearest import Nearest, squared_distances

K = 3
_ROWS_AT_ONCE = 1024


class PrecisionRecall(NamedTuple):
    precision: float
    recall: float


def precision_recall(samples: Tensor, data: Tensor, *, k: int = K) -> PrecisionRecall:
    """Of features [N, D] and [M, D], both of more than k rows. Raises ValueError else."""
    if min(len(samples), len(data)) <= k:
        raise ValueError(f"Manifolds of {k} neighbours need more images than that, but there are {len(samples)}.")
    return PrecisionRecall(_share_inside(samples, data, k), _share_inside(data, samples, k))


def _share_inside(points: Tensor, manifold: Tensor, k: int) -> float:
    radii = radii_of(manifold, k)
    inside = [(_distances(rows, manifold) <= radii).any(1) for rows in points.split(_ROWS_AT_ONCE)]
    return float(torch.cat(inside).double().mean())


def radii_of(features: Tensor, k: int) -> Tensor:
    """The distance of every row to its k-th nearest other row, fp64 [N]."""
    nearest = Nearest(features, k + 1)  # the first is itself
    for first in range(0, len(features), _ROWS_AT_ONCE):
        rows = features[first : first + _ROWS_AT_ONCE]
        nearest.add(rows, torch.arange(first, first + len(rows)))
    return nearest.distances[:, -1]


def _distances(x: Tensor, y: Tensor) -> Tensor:
    return squared_distances(x.double(), y.double()).sqrt()
