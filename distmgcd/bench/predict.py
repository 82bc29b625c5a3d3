"""Images/s on 8 to 1,024 workers, from what this machine measures; the model is in update_time.py.

Every part of an update is timed at several batch sizes, a line is fitted through each, and the averaging of gradients
is measured between two local processes or taken from the user. Real runs under torchrun stand beside the prediction
where asked for.
"""

import math
import statistics
import tempfile
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distmgcd.bench.all_reduce import measure_link
from distmgcd.bench.images import training_pixels
from distmgcd.bench.machine import describe, protocol
from distmgcd.bench.phases import Clock, learn_by_phase
from distmgcd.bench.scaling import loop_only, median_rate, under_torchrun
from distmgcd.bench.update_time import ASSUMPTIONS, GridTime, Line, Link, UpdateTime, fit_line
from distmgcd.bench.updates import Batch
from distmgcd.config import Config
from distmgcd.config.cost import multiply_adds
from distmgcd.core.energy import MultiGridEnergy
from distmgcd.core.parallel.overlap import LEAST_BYTES
from distmgcd.data import check_shares
from distmgcd.errors import UserError
from distmgcd.models.assemble import make_learner, make_method, make_model, open_training_images, overlaps
from distmgcd.workers.collectives import LocalWorker, choose_device

WORKERS = (8, 16, 32, 64, 128, 256, 512, 1024)
SHOWS = 0.05  # communication shows where it is more than this part of an update
_NUM_ROUNDS = 5
_FRACTIONS = (16, 4, 1)  # of the batch, at which an update is timed

Phases = dict[str, float]  # seconds of each


def bench_predict(
    config: Config,
    *,
    use_gpu: bool | None = None,
    link: Link | None = None,
    check_with: Sequence[int] = (),
    num_rounds: int = 3,
    num_updates: int = 40,
) -> dict[str, Any]:
    """The fitted model, its predictions, and real runs with these numbers of workers. On the CPU a worker has one
    thread. link: None measures it here. Raises UserError."""
    device = choose_device(use_gpu)
    batch_size = config.learning.global_batch_size
    if batch_size < 2:
        raise UserError(
            "--predict times updates of several sizes, but learning.global_batch_size is 1; set "
            "learning.global_batch_size=64, say."
        )
    for count in check_with:
        check_shares(batch_size, count, count, block=config.learning.block_size or 1)
    if check_with:
        open_training_images(config)  # real runs need them; whoever has none is told now
    if link is None and device.type == "cuda" and torch.cuda.device_count() < 2:
        raise UserError(
            "--predict needs two GPUs to measure how fast they average a gradient, but this machine has one; give "
            "--bandwidth GB/S and --latency MICROSECONDS."
        )
    with _one_thread_on(device):
        machine, (images, note) = describe(device), training_pixels(config)
        timed = TimedPhases(config, images, device)
        source = "given" if link else f"measured: two local processes, {'nccl' if device.type == 'cuda' else 'gloo'}"
        link = link or measure_link(sum(gradient_bytes(make_model(config))), use_gpu=device.type == "cuda")
        timed.take(_NUM_ROUNDS)
        runs: dict[int, list[float]] = {count: [] for count in check_with}
        for _ in range(num_rounds if check_with else 0):
            for count in check_with:
                runs[count].append(rate_of_run(config, count, num_updates=num_updates, use_gpu=device.type == "cuda"))
            timed.take(_NUM_ROUNDS)  # again, so that a machine whose speed drifts treats both alike
    measured = timed.medians()
    model = fit(config, measured)
    alone = batch_size / model.computing(batch_size)
    return {
        "machine": machine,
        "protocol": protocol()
        | {"rounds": _NUM_ROUNDS, "rounds_of_runs": num_rounds, "threads_a_worker": machine["threads"]},
        "batch": batch_size,
        "measured_s": {str(size): sum(phases.values()) for size, phases in measured.items()},
        "fit_largest_error": max(
            abs(model.computing(size) / sum(phases.values()) - 1) for size, phases in measured.items()
        ),
        "grids": {
            str(size): _of_grid(config, grid, number, machine)
            for number, (size, grid) in enumerate(zip(config.grids.sizes, model.grids, strict=True))
        },
        "rest": {"fixed_s": model.rest.fixed, "s_per_image": model.rest.per_image},
        "link": {"bytes_per_s": link.bytes_per_s, "latency_s": link.latency, "source": source},
        "one_worker_images_per_s": alone,
        "overlap": overlaps(config),  # as real runs have it
        "fixed_batch": [predict(model, link, count, batch_size, alone) for count in WORKERS if count <= batch_size],
        "fixed_share": [predict(model, link, count, batch_size * count, alone) for count in WORKERS],
        "checked": [
            predict(model, link, count, batch_size, alone) | {"measured_images_per_s": rates}
            for count, rates in runs.items()
        ],
        "assumptions": list(ASSUMPTIONS),
        "notes": [note] if note else [],
    }


class TimedPhases:
    """Seconds of every phase of an update, of batches of several sizes in turn."""

    def __init__(self, config: Config, images: np.ndarray, device: torch.device):
        whole = config.learning.global_batch_size
        sizes = sorted({max(1, whole // fraction) for fraction in _FRACTIONS})
        self._batches = [Batch(config, images, device, size) for size in sizes]
        self._learner, self._method, self._device = (
            make_learner(config, LocalWorker(device)),
            make_method(config),
            device,
        )
        self._rounds: list[list[Phases]] = []

    def take(self, num_rounds: int) -> None:
        """Of which a first one only warms up."""
        for number in range(1 + num_rounds):
            times = []
            for batch in self._batches:
                clock = Clock(self._device)
                learn_by_phase(self._learner, batch, number, self._method, clock)
                times.append(clock.seconds())
            self._rounds += [times] if number else []

    def medians(self) -> dict[int, Phases]:
        """{images in the batch: the median round of every phase}."""
        return {
            len(batch): {
                phase: statistics.median(times[place][phase] for times in self._rounds)
                for phase in self._rounds[0][place]
            }
            for place, batch in enumerate(self._batches)
        }


def fit(config: Config, measured: dict[int, Phases]) -> UpdateTime:
    """Lines through the phases. One backward covers all grids, so each has its share of the multiply-adds of it."""
    sizes = list(measured)

    def line(*phases: str) -> Line:
        return fit_line(sizes, [sum(spent[phase] for phase in phases) for spent in measured.values()])

    of_gradient = line("gradient")
    work = [multiply_adds(config, grid) for grid in range(config.num_grids)]
    grids = [
        GridTime(
            sampling=line(f"chain {size}x{size}", f"noise {size}x{size}"),
            gradient=Line(of_gradient.fixed / config.num_grids, of_gradient.per_image * part / sum(work)),
            gradient_bytes=num_bytes,
        )
        for size, part, num_bytes in zip(config.grids.sizes, work, gradient_bytes(make_model(config)), strict=True)
    ]
    return UpdateTime(grids, line("read", "observe", "optimiser", "rest"), least_bytes=LEAST_BYTES)


def gradient_bytes(model: MultiGridEnergy) -> list[int]:
    """Of every grid."""
    return [sum(p.numel() * p.element_size() for p in grid.parameters()) for grid in model.grids]


def predict(model: UpdateTime, link: Link, num_workers: int, batch_size: int, alone: float) -> dict[str, Any]:
    """Images/s of so many workers together, beside what as many on their own would do, `alone` images/s each.

    communication: the part of an update that is nothing else.
    """
    share = math.ceil(batch_size / num_workers)
    row: dict[str, Any] = {"num_workers": num_workers, "share": share}
    for name, overlap in (("without_overlap", False), ("with_overlap", True)):
        seconds = model.seconds(share, num_workers, link, overlap=overlap)
        row[name] = {
            "images_per_s": batch_size / seconds,
            "communication": 1.0 - model.computing(share) / seconds,
            "of_ideal": batch_size / seconds / (num_workers * alone),
        }
    return row


def shows_at(rows: Sequence[dict[str, Any]], name: str) -> int | None:
    """The fewest workers at which communication is more than 5 % of an update, if any of these rows."""
    return next((row["num_workers"] for row in rows if row[name]["communication"] > SHOWS), None)


def rate_of_run(config: Config, num_workers: int, *, num_updates: int, use_gpu: bool) -> float:
    """Images/s of a short run of so many workers under torchrun."""
    short = loop_only(config, min(num_updates, config.learning.num_updates))
    with tempfile.TemporaryDirectory() as folder:
        under_torchrun(short, folder, "run", num_workers=num_workers, use_gpu=use_gpu)
        return median_rate(Path(folder) / "run")


def _of_grid(config: Config, grid: GridTime, number: int, machine: dict[str, Any]) -> dict[str, float | None]:
    num_steps = config.per_grid("langevin.num_steps")[number]
    flop = 4.0 * multiply_adds(config, number)
    rate = flop * num_steps / grid.sampling.per_image if grid.sampling.per_image else None  # too fast to be seen
    return {
        "flop_per_chain_step": flop,
        "num_steps": num_steps,
        "fixed_s_per_step": grid.sampling.fixed / num_steps,
        "s_per_chain_step": grid.sampling.per_image / num_steps,
        "flop_per_s": rate,
        "of_peak": rate and rate / max(machine["matrix_product_flop_per_s"].values()),
        "gradient_bytes": grid.gradient_bytes,
    }


@contextmanager
def _one_thread_on(device: torch.device) -> Any:
    """As a worker on a CPU has in the runs that the prediction is compared with."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if device.type == "cpu" else threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
