"""THE distances of samples to held-out images: training, `evaluate` and `compare` measure by what is here.

    swd    sliced Wasserstein distance in pixels, per size                                 swd.py
    fd     Frechet distance in the features of a network                                   feature_statistics.py
    pr     precision and recall there                                                      pairwise.py

A function takes the statistics of samples and of held-out images (statistics.py); SampleDistances does so for whole
sets of samples, as a run and a comparison need it. evaluate's other metrics are in metrics.py.
"""

import math
from collections.abc import Callable, Collection, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from distmgcd.config import Config
from distmgcd.data import ImageSet
from distmgcd.errors import UserError
from distmgcd.evaluation.distances.feature_statistics import frechet_distance
from distmgcd.evaluation.distances.few_images import warning_of_few_for
from distmgcd.evaluation.distances.pairwise import PrecisionRecall, precision_recall
from distmgcd.evaluation.distances.statistics import Collector, ImageStatistics
from distmgcd.evaluation.distances.swd import distance_of_projections
from distmgcd.evaluation.features.networks import FeatureNetwork, open_features
from distmgcd.workers.collectives import Worker


def swd(samples: ImageStatistics, held_out: ImageStatistics) -> dict[str, float]:
    """{size: sliced Wasserstein distance of N samples to the first N held-out images}; nan if a pixel is nan."""
    return {
        str(size): distance_of_projections(x, held_out.projections[size][: len(x)])
        for size, x in samples.projections.items()
    }


def fd(samples: ImageStatistics, held_out: ImageStatistics) -> float:
    """Frechet distance of their features; nan if a pixel of the samples is not finite."""
    return math.nan if samples.num_not_finite else frechet_distance(samples.moments, held_out.moments)


def pr(samples: ImageStatistics, held_out: ImageStatistics) -> PrecisionRecall:
    """Precision and recall of their features; nan if a pixel of the samples is not finite."""
    if samples.num_not_finite:
        return PrecisionRecall(math.nan, math.nan)
    return precision_recall(samples.features, held_out.features)


class Distances(NamedTuple):
    """Per grid {size: value}, or {name: value}: the mean over several sets of images, and their standard deviation."""

    mean: dict[str, float]
    spread: dict[str, float]

    @staticmethod
    def over(values: Sequence[dict[str, float]]) -> "Distances":
        """Of the values of each set; the deviation of a single one is 0."""
        found = torch.tensor([list(one.values()) for one in values], dtype=torch.float64)
        spread, mean = torch.std_mean(found, dim=0, correction=min(1, len(found) - 1))
        return Distances(*(dict(zip(values[0], x.tolist(), strict=True)) for x in (mean, spread)))


class SampleDistances:
    """Distances of sets of samples to the same held-out images, of which the statistics are taken once.

    Every worker takes the statistics of its share; the numbers are the same on any number of workers.
    """

    def __init__(
        self,
        metrics: Collection[str],
        held_out: ImageSet,
        worker: Worker,
        *,
        num_samples: int,
        sizes: Sequence[int] = (),
        network: FeatureNetwork | None = None,
        rows_per_sum: int | None = None,
    ):
        """metrics: some of swd (at these sizes), fd and pr (in this network).

        num_samples: of every set, and of the held-out images where there are so many: the first ones.
        """
        self.num_images = min(num_samples, len(held_out))
        self._held_out, self._network, self._worker = held_out, network, worker
        self._collector = Collector(
            metrics=metrics,
            shape=held_out.images.shape[1:],
            worker=worker,
            sizes=sizes,
            network=network,
            rows_per_sum=rows_per_sum,
        )

    def __call__(
        self, sets: Sequence[Tensor], *, progress: Callable[[int], None] = lambda done: None
    ) -> dict[str, Distances] | None:
        """{metric: distances of these sets [N, C, S, S] in [-1, 1]}; nan where a value is not finite.

        For features, pictures are rounded to 8 bits as the data are. All workers call it, with the same sets; None but
        in the first. progress: as of Collector.collect, of every set.
        """
        held_out = self._of_held_out
        found = [self._collector.collect(images.__getitem__, len(images), progress=progress) for images in sets]
        if self._worker.rank != 0:
            return None
        values = [self._values(samples, held_out) for samples in found]
        return {metric: Distances.over([of_set[metric] for of_set in values]) for metric in values[0]}

    @cached_property
    def _of_held_out(self) -> ImageStatistics:
        images = self._held_out.images
        return self._collector.collect(lambda numbers: torch.from_numpy(images[numbers.numpy()]), self.num_images)

    def _values(self, samples: ImageStatistics, held_out: ImageStatistics) -> dict[str, dict[str, float]]:
        found: dict[str, dict[str, float]] = {}
        if "swd" in self._collector.metrics:
            found["swd"] = swd(samples, held_out)
        if self._network and "fd" in self._collector.metrics:
            found["fd"] = {self._network.measure("FD"): fd(samples, held_out)}
        if self._network and "pr" in self._collector.metrics:
            of_set = pr(samples, held_out)._asdict()
            found["pr"] = {self._network.measure(what): value for what, value in of_set.items()}
        return found

    @property
    def num_features(self) -> int:
        return self._collector.num_features

    def warning(self) -> str | None:
        """What a user should know before a Frechet distance is believed."""
        if self._network is None:
            return None
        return warning_of_few_for(
            self._network.measure("FD"), num_images=self.num_images, num_features=self.num_features
        )

    def protocol(self) -> dict[str, str]:
        """{"fd": what the Frechet distance is of, in words}, for a file that holds the number; {} without a network."""
        if self._network is None:
            return {}
        how, name = self._network.protocol(), self._network.measure("FD")
        few = " (here fewer than features, so that covariances are singular)" if self.warning() else ""
        return {
            "fd": f"{name}, Frechet distance of samples at the finest grid to {self.num_images} images of "
            f"{self._held_out.name} in {self.num_features} features; pictures of 8 bits, {how['resize']}; SHA-256 of "
            f"the weights {how['weights_sha256'][:16]}; larger of fewer images{few}: compare at equal numbers only"
        }


def sample_distances(config: Config, held_out: ImageSet, worker: Worker) -> SampleDistances:
    """What a run of this config measures: swd, and fd where evaluate.features names a network.

    Raises UserError if its network or two images cannot be had.
    """
    how: dict[str, Any] = {"num_samples": config.evaluate.num_samples, "sizes": config.evaluation_sizes}
    if config.evaluate.features is None:
        return SampleDistances({"swd"}, held_out, worker, **how)
    network = open_features(config.evaluate.features, device=worker.device, option="evaluate.features=")
    if len(held_out) < 2:
        raise UserError(
            f"evaluate.features measures how features vary, but {held_out.name} has a single image; give more held-out "
            "images, or set evaluate.features=null."
        )
    return SampleDistances({"swd", "fd"}, held_out, worker, network=network, **how)
