"""Everything that is asked for of a run, by one worker or by several of which each draws and sees its share."""

import io
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import torch

from distmgcd.evaluation.distances.collect import Collected, Wanted, collect
from distmgcd.evaluation.distances.feature_distance import warning_of_few_for
from distmgcd.evaluation.distances.few_images import warning_of_few
from distmgcd.evaluation.distances.metrics import MEASURES, Sets
from distmgcd.evaluation.long_chains import chain_strips, measure_chains, run_chains
from distmgcd.evaluation.merge import summed
from distmgcd.evaluation.neighbours import (
    measure_neighbours,
    nearest_training_images,
    neighbour_strips,
)
from distmgcd.evaluation.pictures.sheet import save_sheet
from distmgcd.evaluation.pictures.strip import Strip, save_strips
from distmgcd.evaluation.record import write
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
        show(f"Drawing {request.num} samples, then looking at as many training images and held-out images ...")
        sampler = Samples(subject.trained, seed=request.seed)
        sets = _collect_all(subject, sampler, worker, show)
        not_finite = int(summed(torch.tensor([sampler.num_not_finite]), worker))
        if worker.rank == 0:
            results |= {name: of(subject, sets) for name, of in MEASURES.items() if request.wants(name)}
            for warning in _warnings(subject, sets):
                show(warning)
            if sets.samples.pixels is not None:
                sheets["samples"] = _sheet(sets.samples)
        if request.wants("nn"):
            show(f"Looking for the nearest of {len(subject.images)} training images to each sample ...")
            if found := nearest_training_images(subject, sets.samples, sets.held_out, worker):
                results["nn"] = measure_neighbours(subject, found)
                for space in found:
                    sheets[f"neighbours-{space}"] = _strips(neighbour_strips(subject, sets.samples, found, space))
    if request.wants("chains"):
        show(f"Walking longer chains, up to {request.multiples[-1]} times as many steps as a sample's ...")
        if walked := run_chains(subject, worker):
            results["chains"] = measure_chains(subject, walked)
            sheets["chains"] = _strips(chain_strips(subject, walked))
    if worker.rank != 0:
        return None
    measured = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(time.perf_counter() - start, 1),
        "workers": worker.world_size,
        "device": worker.device.type,
        "samples_not_finite": not_finite,
    }
    return write(subject, results, measured, sheets)


def _collect_all(subject: Subject, sampler: Samples, worker: Worker, show: Show) -> Sets:
    """Samples, as many training images and as many held-out ones."""
    request, config = subject.request, subject.trained.config
    wanted = Wanted(
        projections=request.wants("swd"),
        moments=request.wants("fd"),
        features=request.wants("kd", "pr", "nn", "diversity"),
        classes=request.wants("is"),
        pixels=request.wants("nn", "diversity"),
    )
    sources = {
        "samples": sampler,
        "training images": choose(subject.images, request.num, key=1),
        "held-out images": choose(subject.held_out, request.num, key=0),
    }
    return Sets(
        *(
            collect(
                source,
                request.num,
                wanted,
                shape=subject.images.images.shape[1:],
                sizes=config.evaluation_sizes,
                network=subject.network,
                batch_size=subject.batch_size,
                worker=worker,
                progress=_Progress(what, request.num, show),
            )
            for what, source in sources.items()
        )
    )


def _warnings(subject: Subject, sets: Sets) -> Iterator[str]:
    """What is to be said before the numbers are believed."""
    num = subject.request.num
    more = num < min(len(subject.images), len(subject.held_out))
    way_out = "raise --num" if more else "train a run with more held-out images (data.validation=0.2)"
    if warning := warning_of_few(num, num, way_out=way_out):
        yield warning
    if moments := sets.samples.moments:
        name, num_features = subject.network.measure("FD"), len(moments.total)
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


def _sheet(samples: Collected) -> bytes:
    file = io.BytesIO()
    save_sheet(samples.pixels[:_SHEET_SIZE], file)
    return file.getvalue()


def _strips(strips: list[Strip]) -> bytes:
    file = io.BytesIO()
    save_strips(strips, file)
    return file.getvalue()
