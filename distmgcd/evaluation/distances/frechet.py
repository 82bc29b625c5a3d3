"""Frechet distance of two sets of features, each taken as a Gaussian, from statistics that can be merged.

    FD = |m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2))               (Dowson, Landau 1982)

m, S: mean [D] and covariance [D, D] of features x [N, D]. Called FID (Heusel et al. 2017) in the features of one
Inception network only. It is biased upwards the more the fewer images there are: compare at equal N, beside the
distance of data to data.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from distmgcd.evaluation.features.networks import FeatureNetwork


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


def moments_of(pixels: Tensor, network: FeatureNetwork, *, batch_size: int = 64) -> Moments:
    """Of images uint8 [N, C, s, s], N >= 1, a batch at a time."""
    batches = [Moments.of(network(batch)[0]) for batch in pixels.split(batch_size)]
    return sum(batches[1:], batches[0])
