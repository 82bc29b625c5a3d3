"""The Frechet distance of a run's samples to its held-out images, in the features of evaluate.features.

Every worker takes the features of its share, in batches that are the same on any number of workers, and they are put
together in their order: so one worker and many measure the same. What the held-out images have is taken once a run.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from distmgcd.config import Config
from distmgcd.data import ImageSet, shard
from distmgcd.errors import UserError
from distmgcd.evaluation.distances.feature_statistics import Moments, frechet_distance
from distmgcd.evaluation.distances.sample_distance import Distances, mean_and_spread
from distmgcd.evaluation.features.networks import FeatureNetwork, open_features
from distmgcd.evaluation.pictures.sheet import as_levels
from distmgcd.workers.collectives import Worker

_BATCH = 64  # images that the network sees at once


class FrechetDistance:
    def __init__(self, network: FeatureNetwork, held_out: ImageSet, worker: Worker, *, num_samples: int):
        """num_samples: of every set, and of the held-out images where there are so many: the first ones, as for swd."""
        self.name = network.measure("FD")
        self.num_features = network(_first(held_out, 1).to(worker.device))[0].shape[1]
        self.num_images = min(num_samples, len(held_out))
        self._network, self._held_out, self._worker = network, held_out, worker
        self._there: Moments | None = None  # of the held-out images, once they were asked for

    def __call__(self, sets: Sequence[Tensor]) -> Distances | None:
        """The mean over sets [N, C, S, S] in [-1, 1], N >= 2, and their deviation; nan if a value is not finite.

        Pictures are rounded to 8 bits as the data are. All workers call it, with the same sets; None but in the first.
        """
        if self._there is None:
            self._there = self._moments(_first(self._held_out, self.num_images))
        found = [self._moments(as_levels(images)) if images.isfinite().all() else None for images in sets]
        if self._worker.rank != 0:
            return None
        values = [frechet_distance(moments, self._there) if moments else float("nan") for moments in found]
        mean, spread = mean_and_spread(values)
        return Distances({self.name: mean}, {self.name: spread})

    def warning(self) -> str | None:
        """What is to be said before a number is believed."""
        return warning_of_few_for(self.name, num_images=self.num_images, num_features=self.num_features)

    def protocol(self) -> str:
        """For a file that holds the number."""
        how = self._network.protocol()
        few = " (here fewer than features, so that covariances are singular)" if self.warning() else ""
        return (
            f"{self.name}, Frechet distance of samples at the finest grid to {self.num_images} images of "
            f"{self._held_out.name} in {self.num_features} features; pictures of 8 bits, {how['resize']}; SHA-256 of "
            f"the weights {how['weights_sha256'][:16]}; larger of fewer images{few}: compare at equal numbers only"
        )

    def _moments(self, pixels: Tensor) -> Moments:
        """Of images uint8 [N, C, s, s], which all workers hold."""
        batches, device = pixels.split(_BATCH), self._worker.device
        mine = batches[shard(len(batches), self._worker.rank, self._worker.world_size)]
        none = torch.zeros(0, self.num_features, device=device)
        own = torch.cat([none, *(self._network(batch.to(device))[0] for batch in mine)])
        return Moments.of(self._worker.gather(own).cpu())


def warning_of_few_for(name: str, *, num_images: int, num_features: int) -> str | None:
    """What is to be said before a Frechet distance of so many images is believed, or None."""
    if num_images >= num_features:
        return None
    return (
        f"{name} is taken of {num_images} images in {num_features} features; of fewer images than features it is "
        "mostly bias: compare it at this number only, or have more samples taken, if there are as many held-out images."
    )


def frechet_distance_of(config: Config, held_out: ImageSet, worker: Worker) -> FrechetDistance | None:
    """As evaluate.features asks for it, or None. Raises UserError if its network or two images cannot be had."""
    if config.evaluate.features is None:
        return None
    network = open_features(config.evaluate.features, device=worker.device, option="evaluate.features=")
    if len(held_out) < 2:
        raise UserError(
            f"evaluate.features measures how features vary, but {held_out.name} has a single image; give more held-out "
            "images, or set evaluate.features=null."
        )
    return FrechetDistance(network, held_out, worker, num_samples=config.evaluate.num_samples)


def _first(images: ImageSet, num: int) -> Tensor:
    return torch.from_numpy(np.array(images.images[:num]))
