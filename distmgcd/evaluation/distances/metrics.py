"""One function per metric of `evaluate`: numbers with their protocol, from the statistics of three sets of images.

samples    N of the model
data       N training images: what a perfect model would score, but for chance
held out   N images of the held-out split, with which both are compared
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from distmgcd.evaluation.distances import measure
from distmgcd.evaluation.distances.feature_statistics import (
    NUM_PARTS,
    NUM_SUBSETS,
    ClassScore,
    KernelDistance,
    class_score,
    kernel_distance,
)
from distmgcd.evaluation.distances.pairwise import NUM_NEIGHBOURS, mean_pairwise_distance
from distmgcd.evaluation.distances.statistics import NUM_FIRST, ImageStatistics
from distmgcd.evaluation.distances.swd import NUM_DIRECTIONS
from distmgcd.evaluation.subject import Subject

FD_PROTOCOL = {"covariances": "unbiased; sums in fp64"}
PR_PROTOCOL = {"k": NUM_NEIGHBOURS}


class Sets(NamedTuple):
    samples: ImageStatistics
    data: ImageStatistics
    held_out: ImageStatistics


def swd(subject: Subject, sets: Sets) -> dict[str, Any]:
    return {
        "name": "SWD",
        "samples": measure.swd(sets.samples, sets.held_out),
        "data": measure.swd(sets.data, sets.held_out),
        "protocol": {
            "metric": "sliced 1-Wasserstein distance of whole images, box-averaged to each size, pixels in [-1, 1]",
            "directions": NUM_DIRECTIONS,
        },
    }


def fd(subject: Subject, sets: Sets) -> dict[str, Any]:
    return {
        "name": subject.features.measure("FD"),
        "samples": measure.fd(sets.samples, sets.held_out),
        "data": measure.fd(sets.data, sets.held_out),
        "protocol": {**subject.features.protocol(), **FD_PROTOCOL},
    }


def kd(subject: Subject, sets: Sets) -> dict[str, Any]:
    samples, data = (kernel_distance(own.features, sets.held_out.features) for own in (sets.samples, sets.data))
    subsets = f"mean and deviation over {NUM_SUBSETS} random subsets of {samples.subset_size}"
    protocol = {**subject.features.protocol(), "kernel": "(x . y / D + 1)^3, unbiased", "subsets": subsets}
    return _with_deviations(subject.features.measure("KD"), samples, data) | {"protocol": protocol}


def class_scores(subject: Subject, sets: Sets) -> dict[str, Any]:
    samples, data = class_score(sets.samples.classes), class_score(sets.data.classes)
    protocol = {**subject.features.protocol(), "parts": f"mean and deviation over {NUM_PARTS}"}
    return _with_deviations(subject.features.measure("IS"), samples, data) | {"protocol": protocol}


def _with_deviations(
    name: str, samples: KernelDistance | ClassScore, data: KernelDistance | ClassScore
) -> dict[str, Any]:
    return {
        "name": name,
        "samples": samples.mean,
        "samples_deviation": samples.deviation,
        "data": data.mean,
        "data_deviation": data.deviation,
    }


def pr(subject: Subject, sets: Sets) -> dict[str, Any]:
    samples, data = (measure.pr(own, sets.held_out) for own in sets[:2])
    return {
        "name": subject.features.measure("PR"),
        "samples": samples._asdict(),
        "data": data._asdict(),
        "protocol": {**subject.features.protocol(), **PR_PROTOCOL},
    }


def diversity(subject: Subject, sets: Sets) -> dict[str, Any]:
    num_values = subject.images.images[0].size

    def of(own: ImageStatistics) -> dict[str, float]:
        return {
            "pixels": mean_pairwise_distance(own.pixels.flatten(1)) / (128.0 * num_values**0.5),
            "features": mean_pairwise_distance(own.features[:NUM_FIRST]),
        }

    samples, data = of(sets.samples), of(sets.data)
    return {
        "samples": samples,
        "data": data,
        "ratio": {space: samples[space] / data[space] for space in samples},
        "protocol": {
            **subject.features.protocol(),
            "images": f"the first {len(sets.samples.pixels)} of either",
            "distance": "mean over pairs; pixels: rms per value, pixels in [-1, 1]; features: Euclidean",
        },
    }


MEASURES: dict[str, Callable[[Subject, Sets], dict[str, Any]]] = {
    "swd": swd,
    "fd": fd,
    "kd": kd,
    "is": class_scores,
    "pr": pr,
    "diversity": diversity,
}
