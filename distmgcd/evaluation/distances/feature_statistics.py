"""Distances and scores in the features of a network: Frechet distance, kernel distance, class score.

Frechet distance of two sets of features, each taken as a Gaussian, from sums over images.

    FD = |m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2))               (Dowson, Landau 1982)

m, S: mean [D] and covariance [D, D] of features x [N, D]. Called FID (Heusel et al. 2017) in the features of one
Inception network only. It is biased upwards the more the fewer images there are: compare at equal N, beside the
distance of data to data.

Kernel distance: the squared maximum mean discrepancy of two sets of features, unbiased.

    k(x, y) = (x . y / D + 1)^3                                                        x: [N, D], y: [M, D]
    MMD^2   = mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j)

Its expectation is 0 for two sets of one distribution, whatever their size, so single values may be negative. Called KID
(Binkowski et al. 2018) in Inception's features. As there: the mean and the deviation over random subsets.

Class score: the Inception score, or the same with another classifier. Are single images clear, and all together varied?

    IS = exp(mean_i KL(p(y | x_i) || p(y))),  p(y) = mean_i p(y | x_i)          (Salimans et al. 2016)

As usual: of ten parts of the samples, mean and deviation. From sums that can be merged.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True)
class Moments:
    """Count, sum [D] and sum of outer products [D, D] of features, in fp64. Of two sets together: a + b."""

    count: int
    total: Tensor
    outer: Tensor

    @staticmethod
    def of(features: Tensor) -> "Moments":
        """features: [N, D]."""
        x = features.double()
        return Moments(len(x), x.sum(0), x.T @ x)

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(self.count + other.count, self.total + other.total, self.outer + other.outer)

    @property
    def mean(self) -> Tensor:
        return self.total / self.count

    @property
    def covariance(self) -> Tensor:
        """Unbiased. Raises ValueError of fewer than two images."""
        if self.count < 2:
            raise ValueError(f"A covariance needs at least 2 images, but there is {self.count}.")
        return (self.outer - torch.outer(self.total, self.mean)) / (self.count - 1)

    @cached_property
    def root(self) -> Tensor:
        """The symmetric square root of the covariance; eigenvalues within rounding of 0 are 0."""
        values, vectors = torch.linalg.eigh(self.covariance)
        least = values[-1].clamp_min(0) * len(values) * torch.finfo(values.dtype).eps
        return (vectors * torch.where(values > least, values, 0.0).sqrt()) @ vectors.T


def frechet_distance(a: Moments, b: Moments) -> float:
    """The distance of the Gaussians with these moments; also of singular covariances (fewer images than features)."""
    # tr (S_a S_b)^(1/2) is the nuclear norm of S_a^(1/2) S_b^(1/2), which loses no digits where one is singular.
    cross = torch.linalg.svdvals(a.root @ b.root).sum()
    gap = (a.mean - b.mean).square().sum()
    distance = gap + a.covariance.trace() + b.covariance.trace() - 2.0 * cross
    return max(0.0, float(distance))  # 0 of equal sets, up to rounding


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


NUM_PARTS = 10


class ClassScore(NamedTuple):
    mean: float
    deviation: float  # over parts


class ClassSums(NamedTuple):
    """Of every part: the sums of p [P, K], of -entropy [P], and the number of images [P]; fp64."""

    probabilities: Tensor
    negative_entropy: Tensor
    num: Tensor

    @staticmethod
    def of(logits: Tensor, parts: Tensor) -> "ClassSums":
        """logits: [B, K]; parts: int64 [B], from 0 to NUM_PARTS - 1."""
        log_p = logits.double().cpu().log_softmax(1)
        p, own = log_p.exp(), torch.nn.functional.one_hot(parts, NUM_PARTS).double().T  # [P, B]
        return ClassSums(own @ p, own @ (p * log_p).sum(1), own.sum(1))

    def packed(self) -> Tensor:
        """All of it as one row [1, P, K + 2]."""
        return torch.cat([self.probabilities, self.negative_entropy[:, None], self.num[:, None]], 1)[None]

    @staticmethod
    def unpacked(rows: Tensor) -> "ClassSums":
        """The sums of packed rows [R, P, K + 2], one after the other."""
        total = sum(rows, rows.new_zeros(rows.shape[1:]))
        return ClassSums(total[:, :-2], total[:, -2], total[:, -1])

    @staticmethod
    def none() -> "ClassSums":
        return ClassSums.unpacked(torch.zeros(0, NUM_PARTS, 2, dtype=torch.float64))


def class_score(sums: ClassSums) -> ClassScore:
    """Raises ValueError where a part has no image."""
    if (sums.num == 0).any():
        raise ValueError(f"A class score needs at least {NUM_PARTS} images, but there are {int(sums.num.sum())}.")
    mean_p = sums.probabilities / sums.num[:, None]
    entropy_of_mean = -torch.special.xlogy(mean_p, mean_p).sum(1)
    scores = (sums.negative_entropy / sums.num + entropy_of_mean).exp()
    return ClassScore(float(scores.mean()), float(scores.std(correction=0)))
