"""Inception score, or the same in another classifier: are single images clear, and all of them together varied?

    IS = exp(mean_i KL(p(y | x_i) || p(y))),  p(y) = mean_i p(y | x_i)          (Salimans et al. 2016)

As usual: of ten parts of the samples, mean and deviation. From sums that can be merged.
"""

from typing import NamedTuple

import torch
from torch import Tensor

NUM_PARTS = 10


class ClassScore(NamedTuple):
    mean: float
    deviation: float  # over parts


class ClassSums(NamedTuple):
    """Of every part: the sums of p [P, K], of -entropy [P], and the number of images [P]; fp64."""

    probabilities: Tensor
    negative_entropy: Tensor
    count: Tensor

    @staticmethod
    def of(logits: Tensor, parts: Tensor) -> "ClassSums":
        """logits: [B, K]; parts: int64 [B], from 0 to NUM_PARTS - 1."""
        log_p = logits.double().cpu().log_softmax(1)
        p, own = log_p.exp(), torch.nn.functional.one_hot(parts, NUM_PARTS).double().T  # [P, B]
        return ClassSums(own @ p, own @ (p * log_p).sum(1), own.sum(1))

    def merged(self, other: "ClassSums") -> "ClassSums":
        return ClassSums(*(a + b for a, b in zip(self, other, strict=True)))


def class_score(sums: ClassSums) -> ClassScore:
    """Raises ValueError where a part has no image."""
    if (sums.count == 0).any():
        raise ValueError(f"A class score needs at least {NUM_PARTS} images, but there are {int(sums.count.sum())}.")
    mean_p = sums.probabilities / sums.count[:, None]
    entropy_of_mean = -torch.special.xlogy(mean_p, mean_p).sum(1)
    scores = (sums.negative_entropy / sums.count + entropy_of_mean).exp()
    return ClassScore(float(scores.mean()), float(scores.std(correction=0)))
