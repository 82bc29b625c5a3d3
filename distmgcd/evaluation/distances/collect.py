"""All that is kept of a set of images, gathered a batch at a time: never the images themselves, but for the first few.

Of N images: projections [N, 512] a grid, features [N, D], sums of their outer products [D, D]. For 10,000 samples in
1,280 features that is 51 MB, and 20 MB a grid.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from distmgcd.core.grids import pool
from distmgcd.evaluation.distances.feature_statistics import NUM_PARTS, ClassSums, Moments
from distmgcd.evaluation.distances.swd import directions
from distmgcd.evaluation.features.networks import FeatureNetwork
from distmgcd.evaluation.merge import in_order, own_batches, summed
from distmgcd.workers.collectives import Worker

NUM_DIRECTIONS = 512
NUM_FIRST = 1000  # images of which the pixels are kept: for nearest neighbours, diversity and sheets


@dataclass(frozen=True)
class Wanted:
    """What to keep."""

    projections: bool
    moments: bool
    features: bool
    classes: bool
    pixels: bool


@dataclass(frozen=True)
class Collected:
    """Of N images in the order of their numbers. In the first worker; in the others, and if not wanted, None."""

    projections: dict[int, Tensor] | None  # of each size: [N, NUM_DIRECTIONS]
    moments: Moments | None  # of features
    features: Tensor | None  # [N, D]
    classes: ClassSums | None
    pixels: Tensor | None  # uint8 [min(N, NUM_FIRST), C, S, S]


def collect(
    pixels_of: Callable[[Tensor], Tensor],
    num: int,
    wanted: Wanted,
    *,
    shape: Sequence[int],
    sizes: Sequence[int],
    network: FeatureNetwork | None,
    batch_size: int,
    worker: Worker,
    progress: Callable[[int], None] = lambda done: None,
) -> Collected:
    """pixels_of: from numbers int64 [B] to images uint8 [B, *shape]. All workers call it, each sees its share."""
    share = _Share(wanted, sizes, network, num)
    batches, done = own_batches(num, batch_size, worker), 0
    of_own = sum(map(len, batches))
    for numbers in batches:
        share.add(numbers, pixels_of(numbers).to(worker.device))
        done += len(numbers)
        progress(done * num // of_own)  # the others are about as far
    return share.of_all(worker, shape)


class _Share:
    """What one worker keeps."""

    def __init__(self, wanted: Wanted, sizes: Sequence[int], network: FeatureNetwork | None, num: int):
        self._wanted, self._network, self._num = wanted, network, num
        self._projections: dict[int, list[Tensor]] = {size: [] for size in sizes} if wanted.projections else {}
        self._directions: dict[int, Tensor] = {}
        self._features: list[Tensor] = []
        self._moments: Moments | None = None
        self._classes: ClassSums | None = None
        self._pixels: list[Tensor] = []

    def add(self, numbers: Tensor, pixels: Tensor) -> None:
        if self._wanted.pixels:
            self._pixels.append(pixels[numbers.to(pixels.device) < NUM_FIRST].cpu())
        for size, kept in self._projections.items():
            values = pool(_floats(pixels), size).flatten(1)
            kept.append((values @ self._along(size, values).T).cpu())
        if self._network is None or not (self._wanted.moments or self._wanted.features or self._wanted.classes):
            return
        features, logits = self._network(pixels)
        if self._wanted.moments:
            moments = Moments.of(features.cpu())
            self._moments = moments if self._moments is None else self._moments + moments
        if self._wanted.features:
            self._features.append(features.cpu())
        if self._wanted.classes:
            sums = ClassSums.of(logits, numbers * NUM_PARTS // self._num)
            self._classes = sums if self._classes is None else self._classes.merged(sums)

    def of_all(self, worker: Worker, shape: Sequence[int]) -> Collected:
        """shape: [C, S, S] of an image, for a worker that has seen none."""
        wanted, network = self._wanted, self._network
        empty = torch.zeros(0, *shape, dtype=torch.uint8)
        projections = {
            size: in_order(torch.cat([torch.zeros(0, NUM_DIRECTIONS), *kept]), worker)
            for size, kept in self._projections.items()
        }
        pixels = in_order(torch.cat([empty, *self._pixels]), worker) if wanted.pixels else None
        moments = classes = features = None
        if network is not None and (wanted.moments or wanted.features or wanted.classes):
            of_none, logits_of_none = network(empty.new_zeros(1, *shape).to(worker.device))
            of_none = of_none[:0].cpu()
            if wanted.moments:
                own = self._moments or Moments.of(of_none)
                count = summed(torch.tensor([own.count]), worker)
                moments = Moments(int(count), summed(own.total, worker), summed(own.outer, worker))
            if wanted.features:
                features = in_order(torch.cat([of_none, *self._features]), worker)
            if wanted.classes:
                own_sums = self._classes or ClassSums.of(logits_of_none[:0], torch.arange(0))
                classes = ClassSums(*(summed(values, worker) for values in own_sums))
        return Collected(projections or None, moments, features, classes, pixels)

    def _along(self, size: int, values: Tensor) -> Tensor:
        if size not in self._directions:
            self._directions[size] = directions(values.shape[1], NUM_DIRECTIONS, 0).to(values.device)
        return self._directions[size]


def _floats(pixels: Tensor) -> Tensor:
    """uint8 to the middles of 256 cells of [-1, 1]."""
    return (pixels + 0.5) / 128.0 - 1.0
