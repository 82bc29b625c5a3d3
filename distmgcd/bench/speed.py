"""What `distmgcd bench` measures without --profile and --scaling, as one nested dict."""

from typing import NotRequired, TypedDict

from distmgcd.bench.chains import GridFigures, bench_chains
from distmgcd.bench.machine import Machine, Protocol, describe, protocol
from distmgcd.bench.memory import MemoryFigures, bench_memory
from distmgcd.bench.scaling import RayFigures, bench_ray
from distmgcd.bench.updates import UpdateFigures, bench_blocks, bench_updates, training_pixels
from distmgcd.config import Config
from distmgcd.workers.collectives import choose_device


class PeerFigures(TypedDict):
    """The figures of chains, also of other libraries' chains."""

    machine: Machine
    protocol: Protocol
    chains: dict[str, GridFigures]  # {size of the grid: figures}
    notes: list[str]


class SpeedFigures(PeerFigures):
    """The figures of chains, updates, block sizes and memory."""

    updates: UpdateFigures
    blocks: dict[str, float]  # {block size: rate over that without blocks}
    memory: MemoryFigures
    ray: NotRequired[RayFigures]


def bench(config: Config, *, use_gpu: bool | None = None, num_workers: int = 0) -> SpeedFigures:
    """Chains, updates, block sizes, memory; num_workers > 0 also times the loop under Ray Train against this one."""
    device = choose_device(use_gpu)
    machine = describe(device)
    chains, notes = bench_chains(config, device, machine)
    images, note = training_pixels(config)
    updates = bench_updates(config, images, device)
    blocks, left_out = bench_blocks(config, images, device)
    figures: SpeedFigures = {
        "machine": machine,
        "protocol": protocol(),
        "chains": chains,
        "updates": updates,
        "blocks": blocks,
        "memory": bench_memory(config, device),
        "notes": [*notes, *([note] if note else []), *left_out],
    }
    if num_workers:
        figures["ray"] = bench_ray(config, use_gpu=device.type == "cuda", num_workers=num_workers)
    return figures


def bench_peers(config: Config, *, use_gpu: bool | None = None) -> PeerFigures:
    """The chains only, beside the samplers of other libraries."""
    device = choose_device(use_gpu)
    machine = describe(device)
    chains, notes = bench_chains(config, device, machine, with_peers=True)
    return {"machine": machine, "protocol": protocol(), "chains": chains, "notes": notes}
