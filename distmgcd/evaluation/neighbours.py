"""The training images that are nearest to samples and to held-out images, in pixels and in features."""

from typing import Any

import torch
from torch import Tensor

from distmgcd.evaluation.distances.pairwise import Nearest, memorisation
from distmgcd.evaluation.distances.statistics import NUM_FIRST, ImageStatistics, gather_rows, own_batches
from distmgcd.evaluation.pictures.strip import Row, Strip
from distmgcd.evaluation.subject import Subject
from distmgcd.workers.collectives import Worker

Found = dict[str, dict[str, tuple[Tensor, Tensor]]]  # {space: {whose: (distances [Q, K], numbers [Q, K])}}

K = 5  # neighbours on the sheet
_NUM_SHOWN = 6
_BATCH = 128  # training images at a time


def nearest_training_images(
    subject: Subject, samples: ImageStatistics, held_out: ImageStatistics, worker: Worker
) -> Found | None:
    """For each space the distances and numbers [Q, K] of samples and of held-out images; in the first worker.

    Distances in pixels are rms per value, pixels in [-1, 1]; in features they are Euclidean. All training images are
    gone over, by all workers, a batch at a time.
    """
    queries = {
        "pixels": torch.cat([samples.pixels, held_out.pixels]).flatten(1),
        "features": torch.cat([of.features[:NUM_FIRST] for of in (samples, held_out)]),
    }
    found = {space: Nearest(rows.to(worker.device), K) for space, rows in queries.items()}
    for numbers in own_batches(len(subject.images), _BATCH, worker):
        pixels = torch.from_numpy(subject.images.images[numbers.numpy()]).to(worker.device)
        found["pixels"].add(pixels.flatten(1), numbers)
        found["features"].add(subject.features(pixels)[0], numbers)
    merged = {space: _merged(nearest, worker) for space, nearest in found.items()}
    if worker.rank != 0:
        return None
    merged["pixels"].distances /= 128.0 * subject.images.images[0].size ** 0.5  # rms per value, pixels in [-1, 1]
    num = len(samples.pixels)
    return {
        space: {"samples": _rows(nearest, slice(0, num)), "held_out": _rows(nearest, slice(num, None))}
        for space, nearest in merged.items()
    }


def _merged(nearest: Nearest, worker: Worker) -> Nearest:
    """What all workers have found."""
    distances, numbers = (gather_rows(values[None], worker) for values in (nearest.distances, nearest.numbers))
    merged = nearest.of_none()
    for of_worker in zip(distances, numbers, strict=True):
        merged.merge(*of_worker)
    return merged


def _rows(nearest: Nearest, rows: slice) -> tuple[Tensor, Tensor]:
    return nearest.distances[rows], nearest.numbers[rows]


def measure_neighbours(subject: Subject, found: Found) -> dict[str, Any]:
    results = {}
    for space, of in found.items():
        nearest = [of[who][0][:, 0] for who in ("samples", "held_out")]
        results[space] = memorisation(*nearest)._asdict() | {"least": float(nearest[0].min())}
    return {
        **results,
        "protocol": {
            **subject.features.protocol(),
            "queries": f"the first {len(found['pixels']['samples'][0])} samples, as many held-out images",
            "references": f"all {len(subject.images)} images of {subject.images.name}",
            "distance": "pixels: rms per value, pixels in [-1, 1]; features: Euclidean",
            "ratio": "median nearest distance of samples over that of held-out images",
        },
    }


def neighbour_strips(subject: Subject, samples: ImageStatistics, found: Found, space: str) -> list[Strip]:
    """The samples that are nearest to a training image, and the first ones, each beside its neighbours."""
    distances, numbers = found[space]["samples"]
    by_distance = distances[:, 0].argsort(stable=True)[:_NUM_SHOWN].tolist()
    titles = (f"The samples nearest to a training image, in {space}", f"The first samples, in {space}")
    first = range(min(_NUM_SHOWN, len(distances)))
    return [
        Strip(title, [_row(subject, samples, number, distances, numbers) for number in chosen])
        for title, chosen in zip(titles, (by_distance, first), strict=True)
    ]


def _row(subject: Subject, samples: ImageStatistics, number: int, distances: Tensor, numbers: Tensor) -> Row:
    neighbours = torch.from_numpy(subject.images.images[numbers[number].numpy()])
    return Row.plain(
        str(number),
        torch.cat([samples.pixels[number][None], neighbours]),
        above=["sample", *(f"image {row}" for row in numbers[number].tolist())],
        below=["", *(f"{distance:.3g}" for distance in distances[number].tolist())],
    )
