"""All that `distmgcd bench` measures if nothing else is asked for, as one nested dict."""

from typing import Any

from distmgcd.bench.chains import bench_chains
from distmgcd.bench.machine import describe, protocol
from distmgcd.bench.memory import bench_memory
from distmgcd.bench.scaling import bench_ray
from distmgcd.bench.updates import bench_blocks, bench_updates, training_pixels
from distmgcd.config import Config
from distmgcd.workers.collectives import choose_device


def bench(config: Config, *, use_gpu: bool | None = None, num_workers: int = 0) -> dict[str, Any]:
    """Chains, updates, block sizes, memory; num_workers > 0 also times the loop under Ray Train against this one."""
    device = choose_device(use_gpu)
    figures: dict[str, Any] = {"machine": describe(device), "protocol": protocol()}
    figures["chains"], notes = bench_chains(config, device, figures["machine"])
    images, note = training_pixels(config)
    figures["updates"] = bench_updates(config, images, device)
    figures["blocks"], left_out = bench_blocks(config, images, device)
    figures["memory"] = bench_memory(config, device)
    if num_workers:
        figures["ray"] = bench_ray(config, use_gpu=device.type == "cuda", num_workers=num_workers)
    figures["notes"] = [*notes, *([note] if note else []), *left_out]
    return figures


def bench_peers(config: Config, *, use_gpu: bool | None = None) -> dict[str, Any]:
    """The chains only, beside the samplers of other libraries."""
    device = choose_device(use_gpu)
    figures: dict[str, Any] = {"machine": describe(device), "protocol": protocol()}
    figures["chains"], figures["notes"] = bench_chains(config, device, figures["machine"], with_peers=True)
    return figures
