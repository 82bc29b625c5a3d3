"""How long an update takes on W workers: a model of few numbers, each of which can be measured on one machine.

With b = ceil(B / W) images a worker (the largest share: all wait for it), grids g = 1 .. G, coarse to fine:

    s_g(b) = K_g (a_g + c_g b)                                sampling: K_g steps, a_g s a step, c_g s an image and step
    l_g(b) = a'_g + c'_g b                                    the gradient of the gap
    r(b)   = a'' + c'' b                                      all else: reading, observing, optimiser, averaged weights
    m_g(W) = 2 ceil(log2 W) L + 2 (W - 1) / W  D_g / R        averaging D_g bytes of gradient; m_g(1) = 0

    without overlap:   t = sum_g (s_g + l_g) + r + sum_g m_g  speed.overlap=false; DDP's messages are counted as ours
    with overlap (core/parallel/overlap.py; grids that share a message are one g here):
                       C_g = C_(g-1) + s_g + l_g              when grid g's gradient is there
                       E_g = max(C_g, E_(g-1)) + m_g          when it is averaged: one at a time, beside finer grids
                       t   = max(C_G, E_G) + r
    images/s = B / t

L is the latency of one message in s, R the bytes/s between two workers. m_g is the time of a reduce-scatter and an
all-gather by halving and doubling (Thakur, Rabenseifner, Gropp 2005, "Optimization of collective communication
operations in MPICH", section 4.5), with the sums themselves left out.

Assumed: workers do not slow each other down (no shared caches, memory or power; no stragglers); lines through the
measured batch sizes hold below and above them, too; all links are alike and nothing else uses them; averaging slows
nothing down beside which it runs, though gloo's threads need a processor and nccl's kernels part of a GPU; logging,
checkpoints and evaluation are left out. An optimiser step waits for all gradients.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from distmgcd.core.parallel.overlap import messages

ASSUMPTIONS = (
    "workers do not slow each other down: no shared caches, memory or power, no stragglers",
    "time is a straight line in the images a worker has, through the measured batch sizes and beyond them",
    "every worker waits for the largest share, ceil(batch / workers)",
    "averaging D bytes over W workers takes 2 ceil(log2 W) latencies and 2 (W - 1) / W D / bandwidth; all links alike",
    "without overlap communication follows the update; with it (speed.overlap), a grid's gradient travels while finer "
    "grids sample, which that does not slow down",
    "logging, checkpoints and evaluation are left out",
)


@dataclass(frozen=True)
class Line:
    """Seconds for b images: fixed + per_image * b."""

    fixed: float
    per_image: float

    def __call__(self, images: float) -> float:
        return self.fixed + self.per_image * images


@dataclass(frozen=True)
class GridTime:
    """What one grid takes in an update."""

    sampling: Line
    gradient: Line
    gradient_bytes: float

    def __call__(self, images: float) -> float:
        return self.sampling(images) + self.gradient(images)


@dataclass(frozen=True)
class Link:
    """Between two workers."""

    bytes_per_s: float
    latency: float  # seconds


@dataclass(frozen=True)
class UpdateTime:
    grids: Sequence[GridTime]  # coarse to fine
    rest: Line
    least_bytes: int = 0  # of gradient in one message; smaller ones go with that of the next grid

    def computing(self, images: float) -> float:
        """Seconds of an update of one worker with so many images, which tells nobody."""
        return sum(grid(images) for grid in self.grids) + self.rest(images)

    def seconds(self, images: float, num_workers: int, link: Link, *, overlap: bool) -> float:
        """Of an update of so many workers with `images` each."""
        num_bytes = [grid.gradient_bytes for grid in self.grids]
        parts = list(messages(num_bytes, least=self.least_bytes))
        averaging = [all_reduce_seconds(sum(num_bytes[first:last]), num_workers, link) for first, last in parts]
        if not overlap:
            return self.computing(images) + sum(averaging)
        computed = averaged = 0.0
        for (first, last), took in zip(parts, averaging, strict=True):
            computed += sum(grid(images) for grid in self.grids[first:last])
            averaged = max(computed, averaged) + took
        return max(computed, averaged) + self.rest(images)


def all_reduce_seconds(num_bytes: float, num_workers: int, link: Link) -> float:
    """Until every one of so many workers has the mean."""
    if num_workers == 1 or num_bytes == 0:
        return 0.0
    steps, share = 2 * math.ceil(math.log2(num_workers)), 2 * (num_workers - 1) / num_workers
    return steps * link.latency + share * num_bytes / link.bytes_per_s


def fit_line(images: Sequence[float], seconds: Sequence[float]) -> Line:
    """The line of least relative errors through two or more sizes, with neither part below zero."""
    weights = [1.0 / time**2 for time in seconds]
    total = sum(weights)
    mean_images = sum(w * b for w, b in zip(weights, images, strict=True)) / total
    mean_seconds = sum(w * t for w, t in zip(weights, seconds, strict=True)) / total
    variance = sum(w * (b - mean_images) ** 2 for w, b in zip(weights, images, strict=True))
    covariance = sum(
        w * (b - mean_images) * (t - mean_seconds) for w, b, t in zip(weights, images, seconds, strict=True)
    )
    slope = max(0.0, covariance / variance)
    if (fixed := mean_seconds - slope * mean_images) >= 0:
        return Line(fixed, slope)
    through_zero = sum(w * b * t for w, b, t in zip(weights, images, seconds, strict=True)) / sum(
        w * b**2 for w, b in zip(weights, images, strict=True)
    )
    return Line(0.0, through_zero)
