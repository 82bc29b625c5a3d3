"""What is kept of a set of images to measure it: never the images themselves, but for the first few.

Of N images: projections [N, 512] per size, and features [N, D]. For 10,000 images in 1,280 features that is 51 MB, and
20 MB per size. All of it is taken a batch at a time. The workers share the batches, which are the same on any number of
workers, and put the rows together in their order: one worker and many get the same numbers, bit for bit.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.distributed as dist
from torch import Tensor

from distmgcd.core.grids import pool
from distmgcd.data import shard
from distmgcd.evaluation.distances.feature_statistics import NUM_PARTS, ClassSums, Moments
from distmgcd.evaluation.distances.swd import project
from distmgcd.evaluation.features.networks import FeatureNetwork
from distmgcd.evaluation.pictures.sheet import as_levels
from distmgcd.workers.collectives import Worker

NUM_FIRST = 1000  # images of which the pixels are kept: for nearest neighbours, diversity and sheets
OF_FEATURES = frozenset({"fd", "kd", "pr", "nn", "diversity"})  # metrics that need features
OF_PIXELS = frozenset({"nn", "diversity"})


@dataclass(frozen=True)
class ImageStatistics:
    """Of N images in the order of their numbers; what no metric asked for is empty."""

    num: int
    num_not_finite: int  # images with a pixel that is not a finite number
    projections: dict[int, Tensor]  # of each size: [N, NUM_DIRECTIONS]
    features: Tensor  # [N, D]
    classes: ClassSums
    pixels: Tensor  # uint8 [min(N, NUM_FIRST), C, S, S]
    rows_per_sum: int  # of the features, in the sums of their moments

    @cached_property
    def moments(self) -> Moments:
        first, *others = (Moments.of(features) for features in self.features.split(self.rows_per_sum))
        return sum(others, first)


@dataclass(frozen=True, kw_only=True)
class Collector:
    """Takes the statistics of sets of images that some metrics need."""

    metrics: Collection[str]
    shape: Sequence[int]  # [C, S, S] of an image
    worker: Worker
    batch_size: int = 64
    sizes: Sequence[int] = ()  # that projections are taken at
    network: FeatureNetwork | None = None
    rows_per_sum: int | None = None  # see ImageStatistics; None: all. It changes nothing but the rounding

    def collect(
        self, images_of: Callable[[Tensor], Tensor], num: int, *, progress: Callable[[int], None] = lambda done: None
    ) -> ImageStatistics:
        """images_of: from numbers int64 [B] to images [B, C, S, S], uint8 or floats in [-1, 1].

        Called by all workers, each sees its share; all get the statistics of all images. progress is called with the
        number of images that are done.
        """
        batches, parts, done = own_batches(num, self.batch_size, self.worker), [self._of_no_image], 0
        for numbers in batches:
            parts.append(self._rows(images_of(numbers), numbers, num))
            done += len(numbers)
            progress(done * num // sum(map(len, batches)))  # the others are about as far
        rows = {key: gather_rows(torch.cat([part[key] for part in parts]), self.worker) for key in parts[0]}
        return ImageStatistics(
            num,
            int(rows["not_finite"].sum()),
            {size: rows[f"projections {size}"] for size in self.sizes if "swd" in self.metrics},
            rows.get("features", torch.zeros(0, 0)),
            ClassSums.unpacked(rows["classes"]) if "classes" in rows else ClassSums.none(),
            rows.get("pixels", torch.zeros(0, *self.shape, dtype=torch.uint8)),
            self.rows_per_sum or num,
        )

    @cached_property
    def num_features(self) -> int:
        """D; 0 where no metric asks for features."""
        return self._of_no_image["features"].shape[1] if "features" in self._of_no_image else 0

    @cached_property
    def _of_no_image(self) -> dict[str, Tensor]:
        """As _rows, without a row: of a worker that has no batch."""
        rows = self._rows(torch.zeros(1, *self.shape, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64), 1)
        return {key: values[:0] for key, values in rows.items()}

    def _rows(self, images: Tensor, numbers: Tensor, num: int) -> dict[str, Tensor]:
        """All that is kept of a batch, a row per image ("classes": a row per batch), on the CPU."""
        levels, rows = as_levels(images), {"not_finite": (~images.isfinite().flatten(1).all(1)).long()}
        if "swd" in self.metrics:
            rows |= {f"projections {size}": project(pool(as_values(images), size)) for size in self.sizes}
        if OF_PIXELS & set(self.metrics):
            rows["pixels"] = levels[numbers.to(levels.device) < NUM_FIRST]
        if self.network and (OF_FEATURES | {"is"}) & set(self.metrics):
            features, logits = self.network(levels.to(self.worker.device))
            if OF_FEATURES & set(self.metrics):
                rows["features"] = features
            if "is" in self.metrics and logits is not None:
                rows["classes"] = ClassSums.of(logits, numbers * NUM_PARTS // num).packed()
        return {key: values.cpu() for key, values in rows.items()}


def as_values(images: Tensor) -> Tensor:
    """Floats in [-1, 1]: those of uint8 are the middles of 256 equal cells; floats are clamped, nan stays."""
    return (images + 0.5) / 128.0 - 1.0 if images.dtype == torch.uint8 else images.clamp(-1.0, 1.0)


def own_batches(num: int, batch_size: int, worker: Worker) -> list[Tensor]:
    """The numbers 0 .. num - 1 of this worker, in batches: whole ones of all, so that a batch is the same for any
    number of workers, and so is every picture in it."""
    batches = torch.arange(num).split(batch_size)
    return list(batches[shard(len(batches), worker.rank, worker.world_size)])


def gather_rows(rows: Tensor, worker: Worker) -> Tensor:
    """The rows [n_r, ...] of all workers, in rank order, in all of them and on the CPU; called by all of them."""
    if worker.world_size == 1:
        return rows
    on_device = dist.get_backend() == "nccl"  # which moves only what is on a GPU; gloo is given what is on the CPU
    return worker.gather(rows.to(worker.device) if on_device else rows).cpu()
