"""Everything that is asked for of a run, by one worker or by several of which each draws and sees its share."""

import io
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import torch
from torch import Tensor

from distmgcd.evaluation.distances.few_images import warning_of_few, warning_of_few_for
from distmgcd.evaluation.distances.metrics import MEASURES, Sets
from distmgcd.evaluation.distances.statistics import Collector, ImageStatistics, gather_rows
from distmgcd.evaluation.long_chains import chain_strips, measure_chains, run_chains
from distmgcd.evaluation.neighbours import (
    measure_neighbours,
    nearest_training_images,
    neighbour_strips,
)
from distmgcd.evaluation.pictures.sheet import save_sheet
from distmgcd.evaluation.pictures.strip import strips_as_png
from distmgcd.evaluation.record import add_results, identity_of, results_of, stem_of
from distmgcd.evaluation.subject import Samples, Subject, choose
from distmgcd.workers.collectives import Worker

_SHEET_SIZE = 64
_SECONDS_BETWEEN_LINES = 10.0

Show = Callable[[str], None]


def silent(text: str) -> None:
    """A Show for those who want none; processes can be given it."""


def measure(subject: Subject, worker: Worker, show: Show = silent) -> dict[str, Any] | None:
    """All workers call it; the first one writes what is found and returns it. Raises UserError if it cannot write."""
    start, request = time.perf_counter(), subject.request
    results: dict[str, Any] = {}
    sheets: dict[str, bytes] = {}
    not_finite = None
    if request.wants(*MEASURES, "nn"):
        show(f"Drawing {subject.num} samples, then looking at as many training images and held-out images ...")
        sampler = Samples(subject.trained, seed=request.seed)
        sets = _collect_all(subject, sampler, worker, show)
        not_finite = int(gather_rows(torch.tensor([sampler.num_not_finite]), worker).sum())
        if worker.rank == 0:
            results |= {name: of(subject, sets) for name, of in MEASURES.items() if request.wants(name)}
            for warning in _warnings(subject, sets):
                show(warning)
            if len(sets.samples.pixels):
                sheets["samples"] = _sheet(sets.samples)
        if request.wants("nn"):
            show(f"Looking for the nearest of {len(subject.images)} training images to each sample ...")
            if found := nearest_training_images(subject, sets.samples, sets.held_out, worker):
                results["nn"] = measure_neighbours(subject, found)
                for space in found:
                    sheets[f"neighbours-{space}"] = strips_as_png(neighbour_strips(subject, sets.samples, found, space))
    if request.wants("chains"):
        show(f"Running longer chains, up to {request.multiples[-1]} times as many steps as a sample's ...")
        if chains := run_chains(subject, worker):
            results["chains"] = measure_chains(subject, chains)
            sheets["chains"] = strips_as_png(chain_strips(subject, chains))
    if worker.rank != 0:
        return None
    measured = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(time.perf_counter() - start, 1),
        "workers": worker.world_size,
        "device": worker.device.type,
        "samples_not_finite": not_finite,
    }
    place = results_of(subject.run, subject.request.out)
    return add_results(place, stem_of(subject), identity_of(subject), results, measured, sheets)


def _collect_all(subject: Subject, sampler: Samples, worker: Worker, show: Show) -> Sets:
    """Of samples, as many training images and as many held-out ones."""
    collector = Collector(
        metrics=subject.request.metrics or (),
        shape=subject.images.images.shape[1:],
        worker=worker,
        batch_size=subject.batch_size,
        sizes=subject.trained.config.evaluation_sizes,
        network=subject.network,
        rows_per_sum=subject.batch_size,
    )

    def of(what: str, images_of: Callable[[Tensor], Tensor]) -> ImageStatistics:
        def on_device(numbers: Tensor) -> Tensor:
            return images_of(numbers).to(worker.device)

        return collector.collect(on_device, subject.num, progress=_Progress(what, subject.num, show))

    return Sets(
        of("samples", sampler),
        of("training images", choose(subject.images, subject.num, key=1)),
        of("held-out images", choose(subject.held_out, subject.num, key=0)),
    )


def _warnings(subject: Subject, sets: Sets) -> Iterator[str]:
    """What a user should know before the numbers are believed."""
    num = subject.num
    more = num < min(len(subject.images), len(subject.held_out))
    way_out = "raise --num" if more else "train a run with more held-out images (data.validation=0.2)"
    if warning := warning_of_few(num, num, way_out=way_out):
        yield warning
    if subject.request.wants("fd"):
        name, num_features = subject.features.measure("FD"), sets.samples.features.shape[1]
        if warning := warning_of_few_for(name, num_images=num, num_features=num_features):
            yield warning


class _Progress:
    """A line at the end, and now and then on the way."""

    def __init__(self, what: str, num: int, show: Show):
        self._what, self._num, self._show = what, num, show
        self._last_line = time.monotonic()

    def __call__(self, done: int) -> None:
        if done == self._num or time.monotonic() - self._last_line > _SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            self._show(f"{done}/{self._num} {self._what}")


def _sheet(samples: ImageStatistics) -> bytes:
    file = io.BytesIO()
    save_sheet(samples.pixels[:_SHEET_SIZE], file)
    return file.getvalue()
