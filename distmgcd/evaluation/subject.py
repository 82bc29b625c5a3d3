"""What is measured: the request of a user, and what it needs: a checkpoint, images, and a feature network."""

import re
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from distmgcd.config.kinds import suggest
from distmgcd.data import ImageSet
from distmgcd.errors import UserError
from distmgcd.evaluation.distances.statistics import OF_FEATURES
from distmgcd.evaluation.features.networks import DEFAULT, FeatureNetwork, open_features
from distmgcd.evaluation.pictures.sheet import as_levels
from distmgcd.models.run_images import images_of
from distmgcd.models.sampling import sample_in_batches
from distmgcd.models.trained_model import TrainedModel, Weights, load
from distmgcd.runs.run_folder import Run

METRICS = {
    "swd": "sliced Wasserstein distance per grid",
    "fd": "Frechet distance in features",
    "kd": "kernel distance in features",
    "is": "class score (Inception score) of networks that have classes",
    "pr": "precision and recall in features",
    "nn": "nearest training images, and a memorisation ratio",
    "diversity": "mean distance between two samples",
    "chains": "longer chains, and the acceptance rate of a Metropolis-adjusted step",
}
LARGEST_NUM = 10_000  # samples, where --num is not given
SMALLEST_NUM = 20


@dataclass(frozen=True, kw_only=True)
class Request:
    metrics: tuple[str, ...] | None = None  # None: all that the feature network allows
    num: int | None = None  # samples; None: 10,000, or as many as there are images to compare them with
    multiples: tuple[int, ...] = (1, 2, 10)  # of every grid's num_steps: when long chains are measured
    features: str = DEFAULT
    download: bool = False
    seed: int = 0
    checkpoint: str = "end"
    weights: Weights = "ema"
    data: str | None = None  # where the run's images are; None: at its data.path
    out: str | None = None  # the folder for results; None: the run's (record.results_of)

    def wants(self, *metrics: str) -> bool:
        return self.metrics is None or not set(metrics).isdisjoint(self.metrics)


def parse_metrics(text: str | None) -> tuple[str, ...] | None:
    """ "swd,fd" is ("swd", "fd"), in the order of METRICS. Raises UserError."""
    if text is None:
        return None
    asked = [part.strip() for part in text.split(",")]
    for name in asked:
        if name not in METRICS:
            raise UserError(
                f"--metrics must be some of {', '.join(METRICS)}, with commas between them, but has {name!r}"
                f"{suggest(name, list(METRICS))}; leave it out for all."
            )
    return tuple(name for name in METRICS if name in asked)


def parse_steps(text: str) -> tuple[int, ...]:
    """ "K,2K,10K" is (1, 2, 10), in rising order. Raises UserError."""
    multiples = set()
    for part in text.split(","):
        found = re.fullmatch(r"([1-9]\d*)?[kK]", part.strip())
        if not found:
            raise UserError(
                "--steps must be multiples of K, the number of steps of the run's config, but has "
                f"{part.strip()!r}; write --steps K,2K,10K."
            )
        multiples.add(int(found[1] or 1))
    return tuple(sorted(multiples))


@dataclass(frozen=True)
class Subject:
    run: Run
    trained: TrainedModel
    images: ImageSet  # those it was trained on
    held_out: ImageSet
    network: FeatureNetwork | None  # None where nothing of what is asked for needs one
    request: Request  # with the metrics and the number that it comes to

    @property
    def num(self) -> int:
        """Of samples, and of training images and held-out images."""
        assert self.request.num is not None
        return self.request.num

    @property
    def features(self) -> FeatureNetwork:
        """The network, for what needs one."""
        assert self.network is not None
        return self.network

    @property
    def batch_size(self) -> int:
        """Of samples drawn at once, as everywhere: batch norm would couple those of a batch."""
        learning = self.trained.config.learning
        return learning.block_size or learning.global_batch_size


def open_subject(run: str, request: Request, device: torch.device) -> Subject:
    """Raises UserError."""
    trained = load(run, which=request.checkpoint, device=device, weights=request.weights, data=request.data)
    images, held_out = (images_of(Run.open(run), trained.config, which) for which in ("images", "held_out"))
    network = None
    if request.wants(*OF_FEATURES, "is"):
        network = open_features(request.features, device=device, download=request.download)
    metrics = _metrics(request, network, device)
    request = replace(request, num=_num(request.num, images, held_out), metrics=metrics)
    return Subject(Run.open(run), trained, images, held_out, network, request)


def _metrics(request: Request, network: FeatureNetwork | None, device: torch.device) -> tuple[str, ...]:
    if network is None:
        return request.metrics or ()
    has_classes = network(torch.zeros(1, 3, 64, 64, dtype=torch.uint8, device=device))[1] is not None
    if request.metrics is None:
        return tuple(name for name in METRICS if name != "is" or has_classes)
    if "is" in request.metrics and not has_classes:
        raise UserError(
            f"--metrics is needs a network with classes, but {request.features} has none; give --features "
            "efficientnet-lite0 or inception."
        )
    return request.metrics


def _num(asked: int | None, images: ImageSet, held_out: ImageSet) -> int:
    fewest = min(images, held_out, key=len)
    num = min(LARGEST_NUM, len(fewest)) if asked is None else asked
    if num > len(fewest):
        raise UserError(
            f"--num {num} is more than the {len(fewest)} images of {fewest.name}, with which as many samples are "
            f"compared; give --num {len(fewest)} or less."
        )
    if num < SMALLEST_NUM:
        raise UserError(
            f"At least {SMALLEST_NUM} samples and as many images are needed, but there are {num}; raise --num, or give "
            "the run more held-out images."
        )
    return num


class Samples:
    """The model's pictures by their numbers, as uint8 [B, C, S, S]; counts those that are not finite."""

    def __init__(self, trained: TrainedModel, *, seed: int):
        self._trained, self._seed = trained, seed
        self.num_not_finite = 0

    def __call__(self, numbers: Tensor) -> Tensor:
        pictures = self.at_every_grid(numbers)[-1]
        self.num_not_finite += int((~pictures.isfinite().flatten(1).all(1)).sum())
        return as_levels(pictures)

    def at_every_grid(self, numbers: Tensor) -> list[Tensor]:
        """Float, as the chains end."""
        trained = self._trained
        return sample_in_batches(
            trained.model, trained.starts, numbers, trained.config, seed=self._seed, device=trained.device
        )


class Chosen(NamedTuple):
    """Some images of a data set, by numbers 0, 1, ... in their order there."""

    images: ImageSet
    rows: np.ndarray  # int64, ascending

    def __call__(self, numbers: Tensor) -> Tensor:
        return torch.from_numpy(self.images.images[self.rows[numbers.numpy()]])


def choose(images: ImageSet, num: int, *, key: int) -> Chosen:
    """Random ones, the same for every run on these images."""
    order = np.random.Generator(np.random.Philox(key=key)).random(len(images))
    return Chosen(images, np.sort(np.argsort(order, kind="stable")[:num]))
