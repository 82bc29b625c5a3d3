"""How fast the chains and the update loop run on this machine, beside what the machine could do.

chain-steps/s   Langevin steps of single images: a step of a batch of B counts B
textbook        the bare loop as a textbook has it, on the same frozen network: autograd.grad, torch.randn
peak            fraction of this machine's measured fp32 matrix product; a chain-step costs 4 FLOP a
                multiply-add of the network: forward and gradient of the image
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from distmgcd.bench.scaling import loop_only, median_rate
from distmgcd.config import Config
from distmgcd.config.cost import multiply_adds
from distmgcd.core.blocks import learn_in_blocks
from distmgcd.core.energy import ConvEnergy, MultiGridEnergy, frozen
from distmgcd.core.langevin import Langevin, run_chain
from distmgcd.core.learning import learn
from distmgcd.core.synthesis import ChainNoise, synthesise
from distmgcd.data import batch_indices
from distmgcd.launch import debug, train
from distmgcd.training.assemble import make_blocks, make_langevin, make_learner, make_method, open_training_images
from distmgcd.training.worker import LocalWorker, choose_device

_NUM_PAIRS = 7  # measurements of each of two things, taken in turn
_SECONDS_EACH = 0.4
_MATRIX_SIZE = 2048


def bench(config: Config, *, use_gpu: bool | None = None, num_workers: int = 0) -> dict[str, Any]:
    """All figures as one nested dict; num_workers > 0 also times the loop under Ray Train against this process."""
    device = choose_device(use_gpu)
    model = make_learner(config, LocalWorker(device)).model
    peak = matrix_product_rate(device)
    figures = {
        "machine": {
            "device": _device_name(device),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "matrix_product_flop_per_s": peak,
        },
        "chains": {
            str(size): bench_chain(model.grids[grid], config, grid, settings, device=device, peak=peak)
            for grid, (size, settings) in enumerate(zip(config.grids.sizes, make_langevin(config), strict=True))
        },
        "updates": bench_updates(config, device),
        "blocks": bench_blocks(config, device),
    }
    if num_workers:
        figures["ray"] = bench_ray(config, use_gpu=device.type == "cuda", num_workers=num_workers)
    return figures


def matrix_product_rate(device: torch.device) -> float:
    """FLOP/s of a square fp32 matrix product, the best of several."""
    a, b = torch.randn(2, _MATRIX_SIZE, _MATRIX_SIZE, device=device)
    return 2.0 * _MATRIX_SIZE**3 / min(_seconds(lambda: a @ b, device) for _ in range(8))


def bench_chain(
    energy: ConvEnergy, config: Config, grid: int, settings: Langevin, *, device: torch.device, peak: float
) -> dict[str, float]:
    """Our chain of one grid against the textbook loop, in turn on the same network and batch."""
    batch, size = config.learning.global_batch_size, config.grids.sizes[grid]
    x = torch.rand(batch, config.data.channels, size, size, device=device) * 2 - 1
    noise = ChainNoise(torch.arange(batch, device=device), seed=0)

    def ours() -> None:
        run_chain(energy, x, noise(grid, tuple(x.shape[1:]), settings.num_steps), settings)

    def textbook() -> None:
        textbook_chain(energy, x, settings)

    with frozen(energy):
        pairs = in_turn(ours, textbook, device)
    steps = batch * settings.num_steps
    rate = steps / statistics.median(a for a, _ in pairs)
    return {
        "chain_steps_per_s": rate,
        "textbook_chain_steps_per_s": steps / statistics.median(b for _, b in pairs),
        "ratio_to_textbook": statistics.median(b / a for a, b in pairs),
        "fraction_of_peak": 4.0 * multiply_adds(config, grid) * rate / peak,
    }


def textbook_chain(energy: Callable[[Tensor], Tensor], x: Tensor, settings: Langevin) -> Tensor:
    """x <- x - (s^2 / 2) grad U + s sqrt(T) z, as one would write it in a notebook."""
    for _ in range(settings.num_steps):
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(energy(x).sum(), x)
        x = x.detach() - settings.drift_scale * gradient + settings.noise_std * torch.randn_like(x)
    return x


def bench_updates(config: Config, device: torch.device) -> dict[str, float]:
    """Images/s of whole updates on real images, and the share of their time that sampling takes."""
    images = open_training_images(config)
    learner, method = make_learner(config, LocalWorker(device)), make_method(config)
    batch = batch_indices(
        0, num_images=len(images), global_batch_size=config.learning.global_batch_size, seed=config.seed
    )
    pixels, indices = torch.from_numpy(images.images[batch]).to(device), torch.from_numpy(batch.copy()).to(device)
    seeds = torch.zeros(len(batch), config.data.channels, 1, 1, device=device)

    def sampling(model: MultiGridEnergy = learner.model) -> None:
        synthesise(model, seeds, ChainNoise(indices, config.seed), sizes=method.sizes, langevin=method.langevin)

    pairs = in_turn(lambda: learn(learner, pixels, indices, 0, method), sampling, device)
    return {
        "images_per_s": len(batch) / statistics.median(a for a, _ in pairs),
        "share_of_sampling": statistics.median(b / a for a, b in pairs),
    }


def bench_blocks(config: Config, device: torch.device) -> dict[str, float]:
    """What learning.block_size costs: {block size: rate of updates in such blocks over the rate without}."""
    images, batch_size = open_training_images(config), config.learning.global_batch_size
    batch = batch_indices(0, num_images=len(images), global_batch_size=batch_size, seed=config.seed)
    pixels, indices = torch.from_numpy(images.images[batch]).to(device), torch.from_numpy(batch.copy()).to(device)
    worker, method = LocalWorker(device), make_method(config)
    learner = make_learner(config, worker)
    ratios = {}
    for size in (batch_size // 2, batch_size // 4, batch_size // 8):
        if size and batch_size % size == 0:
            learning = config.learning.model_copy(update={"block_size": size})
            blocks = make_blocks(config.model_copy(update={"learning": learning}), worker)
            pairs = in_turn(
                lambda: learn(learner, pixels, indices, 0, method),
                lambda blocks=blocks: learn_in_blocks(learner, pixels, indices, 0, method, blocks=blocks),
                device,
            )
            ratios[str(size)] = statistics.median(whole / in_blocks for whole, in_blocks in pairs)
    return ratios


def bench_ray(config: Config, *, use_gpu: bool, num_workers: int, num_rounds: int = 3) -> dict[str, float]:
    """Images/s of the whole loop in this process and under Ray Train, in turn; the ratios are of neighbours."""
    short = loop_only(config, 40)
    here, on_ray, ratios = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for name in map(str, range(num_rounds + 1)):
            debug(short, storage_path=folder, name=f"here{name}", use_gpu=use_gpu)
            here.append(median_rate(Path(folder) / f"here{name}"))
            if len(here) > 1:
                ratios.append(2 * on_ray[-1] / (here[-2] + here[-1]))
            if len(here) <= num_rounds:
                train(short, storage_path=folder, name=f"ray{name}", num_workers=num_workers, use_gpu=use_gpu)
                on_ray.append(median_rate(Path(folder) / f"ray{name}"))
    return {
        "num_workers": num_workers,
        "images_per_s": statistics.median(on_ray),
        "debug_images_per_s": statistics.median(here),
        "ratio_to_debug": statistics.median(ratios),
        "ratio_smallest": min(ratios),
        "ratio_largest": max(ratios),
    }


def in_turn(a: Callable[[], Any], b: Callable[[], Any], device: torch.device) -> list[tuple[float, float]]:
    """Seconds of one call of each, measured in turn, so that a machine whose speed drifts treats them alike."""
    repeats = [max(1, round(_SECONDS_EACH / _seconds(f, device))) for f in (a, b) if _seconds(f, device)]

    def timed(f: Callable[[], Any], count: int) -> float:
        return _seconds(lambda: [f() for _ in range(count)], device) / count

    return [(timed(a, repeats[0]), timed(b, repeats[1])) for _ in range(_NUM_PAIRS)]


def table_of(figures: dict[str, Any]) -> list[Any]:
    """The figures for a person: a table of the chains, then a line each."""
    machine, updates = figures["machine"], figures["updates"]
    table = Table(
        title=f"{machine['device']}, {machine['threads']} threads, torch {machine['torch']}",
        title_justify="left",
    )
    for column in ("grid", "chain-steps/s", "textbook loop", "ratio", "of peak"):
        table.add_column(column, justify="right")
    for size, chain in figures["chains"].items():
        table.add_row(
            f"{size}x{size}",
            f"{chain['chain_steps_per_s']:,.0f}",
            f"{chain['textbook_chain_steps_per_s']:,.0f}",
            f"{chain['ratio_to_textbook']:.2f}",
            f"{chain['fraction_of_peak']:.2f}",
        )
    lines = [
        f"fp32 matrix product: {machine['matrix_product_flop_per_s'] / 1e9:,.0f} GFLOP/s",
        f"updates: {updates['images_per_s']:,.0f} images/s, "
        f"{100 * updates['share_of_sampling']:.0f} % of the time in sampling",
    ]
    prices = ", ".join(f"{ratio:.2f} with {size}" for size, ratio in figures["blocks"].items())
    lines.append(f"learning.block_size: {prices} of the rate without")
    if "ray" in figures:
        ray = figures["ray"]
        lines.append(
            f"Ray Train, {ray['num_workers']} worker(s): {ray['images_per_s']:,.0f} images/s, "
            f"{ray['ratio_to_debug']:.2f} of this process ({ray['debug_images_per_s']:,.0f}); "
            f"rounds from {ray['ratio_smallest']:.2f} to {ray['ratio_largest']:.2f}"
        )
    return [table, *lines]


def _seconds(f: Callable[[], Any], device: torch.device) -> float:
    _wait(device)
    start = time.perf_counter()
    f()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
