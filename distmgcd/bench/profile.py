"""Where the time of one update goes: by phase, with plain timers, and by kind of work, with torch's profiler.

Phases are parts of one update, timed one after the other (on CUDA by events in the stream); that this costs next to
nothing is measured beside the same update untimed. Kinds of work are of the same update under torch.profiler, whose
own cost is measured, too; it falls most on small operators, so theirs are upper bounds.
"""

import os
import statistics
from collections import defaultdict
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch.profiler import ProfilerActivity, record_function

from distmgcd.bench import timing
from distmgcd.bench.images import training_pixels
from distmgcd.bench.kernels import CLASSES, times_of
from distmgcd.bench.machine import describe, protocol
from distmgcd.bench.phases import Around, Clock, learn_by_phase
from distmgcd.bench.updates import Batch
from distmgcd.config import Config
from distmgcd.core.learning import learn
from distmgcd.models.assemble import make_learner, make_method
from distmgcd.workers.collectives import LocalWorker, choose_device

NUM_ROUNDS = 5
NUM_PROFILED = 3
_NUM_LARGEST = 3  # operators that are named, of every kind of work


def bench_profile(config: Config, *, use_gpu: bool | None = None) -> dict[str, Any]:
    """Phases, classes, the largest operators, and what measuring them costs."""
    device = choose_device(use_gpu)
    machine, (images, note) = describe(device), training_pixels(config)
    batch, method = Batch(config, images, device), make_method(config)
    learner = make_learner(config, LocalWorker(device))
    for update in range(2):
        learn(learner, batch.read(), batch.indices, update, method)
    times: dict[str, list[float]] = {"whole": [], "parts": [], "timed": []}
    phases: dict[str, list[float]] = defaultdict(list)
    for number in range(NUM_ROUNDS):
        update = 2 + number
        times["whole"].append(
            timing.seconds(lambda now=update: learn(learner, batch.read(), batch.indices, now, method), device)
        )
        times["parts"].append(
            timing.seconds(lambda now=update: learn_by_phase(learner, batch, now, method, no_phase), device)
        )
        clock = Clock(device)
        times["timed"].append(
            timing.seconds(lambda now=update, on=clock: learn_by_phase(learner, batch, now, method, on), device)
        )
        for phase, spent in clock.seconds().items():
            phases[phase].append(spent)
    medians = {phase: statistics.median(spent) for phase, spent in phases.items()}
    return {
        "machine": machine,
        "protocol": protocol() | {"rounds": NUM_ROUNDS},
        "batch": len(batch),
        "update_s": statistics.median(times["whole"]),
        "in_parts_over_whole": statistics.median(a / b for a, b in zip(times["parts"], times["whole"], strict=True)),
        "timers_over_none": statistics.median(a / b for a, b in zip(times["timed"], times["parts"], strict=True)),
        "phases_s": medians,
        "phase_shares": {phase: spent / sum(medians.values()) for phase, spent in medians.items()},
        **by_class(lambda around: learn_by_phase(learner, batch, 99, method, around), device, set(medians)),
        "notes": [note] if note else [],
    }


def by_class(update: Callable[[Around], None], device: torch.device, phases: set[str]) -> dict[str, Any]:
    """Shares of the kinds of work in updates under the profiler, and the operators of each that take longest."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # else it tells every start and stop, and of GPUs that are not there
    on_cuda = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_cuda else [])]
    times: dict[tuple[str, str], float] = defaultdict(float)
    costs, wall = [], 0.0
    for _ in range(NUM_PROFILED):
        without = timing.seconds(lambda: update(no_phase), device)
        with torch.profiler.profile(activities=activities) as profile:
            profiled = timing.seconds(lambda: _named(update), device)
        costs.append(profiled / without)
        wall += profiled
        for key, spent in times_of(profile.events(), phases, on_cuda=on_cuda).items():
            times[key] += spent
    if on_cuda:  # what is left of the wall clock, the device waits for the host
        times["other", "the device waits"] += max(0.0, wall - sum(times.values()))
    total = sum(times.values())
    shares = {kind: sum(spent for (of, _), spent in times.items() if of == kind) / total for kind in CLASSES}
    largest = {
        kind: sorted(((name, spent / total) for (of, name), spent in times.items() if of == kind), key=lambda x: -x[1])
        for kind in CLASSES
    }
    return {
        "class_shares": shares,
        "largest": {kind: dict(named[:_NUM_LARGEST]) for kind, named in largest.items()},
        "profiler_over_none": statistics.median(costs),
        "accounted_for": total / wall,
    }


def _named(update: Callable[[Around], None]) -> None:
    with record_function("update"):  # its own time is what Python takes between the operators
        update(record_function)


def no_phase(name: str) -> nullcontext[None]:
    return nullcontext()
