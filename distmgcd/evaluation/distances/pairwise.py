"""What is measured by distances of single images: nearest neighbours, precision and recall, diversity.

The nearest of many references to each query: has the model learned its training images by heart?

    memorisation ratio = median_i d(sample_i, train) / median_j d(held-out_j, train)        d to the nearest one

About 1: samples are as far from the training images as unseen images are. Well below 1: they are copies, or smoother
than images are; look at the sheet. fp64 throughout, so that a copy is at distance 0 up to 1e-8 of its length, and that
of pixel levels is exact.

Precision and recall by k-nearest-neighbour manifolds (Kynkaanniemi et al. 2019).

    manifold(X) = union of the balls around x in X that reach to x's k-th nearest neighbour in X
    precision   = share of samples in the manifold of the data          are the samples like data?
    recall      = share of the data in the manifold of the samples      does the model draw all kinds of data?

Of two sets of one distribution both are below 1 (about 0.8 to 0.9 at k = 3), so print them beside those of data.

Diversity: how far apart images are from one another.

    diversity = mean_{i != j} |x_i - x_j|                                              x: [N, D]

Much below that of data: the model draws the same few images. Much above: noise.
"""

from typing import NamedTuple

import torch
from torch import Tensor

NUM_NEIGHBOURS = 3  # of precision and recall
_QUERIES_AT_ONCE = 512  # in fp64: 50 MB of 64x64 colour images
_ROWS_AT_ONCE = 1024


class Nearest:
    """The k nearest references so far of every query, nearest first."""

    def __init__(self, queries: Tensor, k: int):
        """queries: [Q, D], uint8 or floating-point."""
        self._queries = queries
        self.distances = torch.full((len(queries), k), torch.inf, dtype=torch.float64)  # Euclidean
        self.numbers = torch.full((len(queries), k), -1)  # of the references, as they were given; -1: none yet

    def add(self, references: Tensor, numbers: Tensor) -> None:
        """references: [R, D]; numbers: int64 [R], who they are."""
        references = references.double()
        for rows in torch.arange(len(self._queries)).split(_QUERIES_AT_ONCE):
            squares = squared_distances(self._queries[rows].double(), references)
            nearest, columns = squares.topk(min(self.numbers.shape[1], len(references)), largest=False)
            self._take(rows, nearest.sqrt().cpu(), numbers[columns.cpu()])

    def of_none(self) -> "Nearest":
        """Of the same queries, with nothing found yet."""
        return Nearest(self._queries, self.numbers.shape[1])

    def merge(self, distances: Tensor, numbers: Tensor) -> None:
        """What another of the same queries has found among other references."""
        self._take(torch.arange(len(self._queries)), distances, numbers)

    def _take(self, rows: Tensor, distances: Tensor, numbers: Tensor) -> None:
        distances = torch.cat([self.distances[rows], distances], 1)
        numbers = torch.cat([self.numbers[rows], numbers], 1)
        order = distances.argsort(dim=1, stable=True)[:, : self.numbers.shape[1]]  # of equals, the one that came first
        self.distances[rows], self.numbers[rows] = distances.gather(1, order), numbers.gather(1, order)


class Memorisation(NamedTuple):
    """Of nearest distances to the training images."""

    median: float  # of samples
    median_of_held_out: float
    ratio: float
    share_very_near: float  # of samples that are nearer than the nearest hundredth of the held-out images; 0.01 of data


def memorisation(of_samples: Tensor, of_held_out: Tensor) -> Memorisation:
    """Distances to the nearest training image, fp64 [N] and [M]."""
    median, held_out = of_samples.quantile(0.5), of_held_out.quantile(0.5)
    very_near = (of_samples < of_held_out.quantile(0.01)).double().mean()
    return Memorisation(*map(float, (median, held_out, median / held_out, very_near)))


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """|x_i - y_j|^2: [N, D] and [M, D] to [N, M]; of a row to itself 0 up to rounding, never below."""
    lengths = x.square().sum(1)[:, None] + y.square().sum(1)
    return torch.addmm(lengths, x, y.T, alpha=-2.0).clamp_(min=0.0)


class PrecisionRecall(NamedTuple):
    precision: float
    recall: float


def precision_recall(samples: Tensor, data: Tensor, *, k: int = NUM_NEIGHBOURS) -> PrecisionRecall:
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


def mean_pairwise_distance(x: Tensor) -> float:
    """Euclidean, of all pairs of different rows of [N, D], uint8 or floating-point. Raises ValueError below 2."""
    if len(x) < 2:
        raise ValueError(f"Pairs need at least 2 images, but there is {len(x)}.")
    total = sum(_sum_of_distances(x[rows], x[rows[0] :]) for rows in torch.arange(len(x)).split(_QUERIES_AT_ONCE))
    return 2.0 * total / (len(x) * (len(x) - 1))


def _sum_of_distances(rows: Tensor, on: Tensor) -> float:
    """Of the pairs (i, j), i < j, with i in rows; on starts with the same rows."""
    distances = squared_distances(rows.double(), on.double()).sqrt()
    return float(distances.triu(diagonal=1).sum())
