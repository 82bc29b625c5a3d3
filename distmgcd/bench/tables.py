"""The figures of every kind of bench for a person: tables, and a line each for what is one number."""

import statistics
from collections.abc import Iterable
from typing import Any

from rich.table import Table


def of_speed(figures: dict[str, Any]) -> list[Any]:
    updates, memory = figures["updates"], figures["memory"]
    lines = [
        *_heading(figures["machine"]),
        of_chains(figures["chains"]),
        f"updates: {_rate(updates['images_per_s'])} images/s at batch {updates['batch']}, "
        f"{100 * updates['share_of_sampling']:.0f} % of the time in sampling; {updates['of_textbook']:.2f} of the rate "
        f"of the same update as a textbook has it ({updates['textbook_images_per_s']['median']:,.0f}: the frozen loop, "
        "no metrics, no averaged weights)",
    ]
    if figures["blocks"]:
        prices = ", ".join(f"{ratio:.2f} with {size}" for size, ratio in figures["blocks"].items())
        lines.append(f"learning.block_size: {prices} of the rate without")
    used, reserved = memory.get("peak_device_bytes"), memory.get("peak_device_reserved_bytes")
    on_device = f"; on the device {_bytes(used)}, {_bytes(reserved)} reserved" if used else ""
    lines.append(
        f"memory of a process with two updates behind it: {_bytes(memory['peak_resident_bytes'])} at most, of which "
        f"{_bytes(memory['imports_bytes'])} before there was a model{on_device}"
    )
    if "ray" in figures:
        ray = figures["ray"]
        lines.append(
            f"Ray Train, {ray['num_workers']} worker(s): {ray['images_per_s']:,.0f} images/s, "
            f"{ray['ratio_to_debug']:.2f} of this process ({ray['debug_images_per_s']:,.0f}); "
            f"rounds from {ray['ratio_smallest']:.2f} to {ray['ratio_largest']:.2f}"
        )
    return [*lines, *figures["notes"]]


def of_peers(figures: dict[str, Any]) -> list[Any]:
    return [*_heading(figures["machine"]), of_chains(figures["chains"]), *figures["notes"]]


def of_chains(chains: dict[str, Any]) -> Table:
    """Every contender of every grid."""
    some = next(iter(chains.values()))
    table = _table(
        f"chain-steps/s, batch {some['batch']}", "grid", "", "median", "slowest", "fastest", "of textbook", "of peak"
    )
    for size, grid in chains.items():
        for place, (name, row) in enumerate(grid["contenders"].items()):
            rate = row["chain_steps_per_s"]
            table.add_row(
                "" if place else f"{size}x{size}",
                name,
                *(f"{rate[which]:,.0f}" for which in ("median", "slowest", "fastest")),
                f"{row['of_textbook']:.2f}",
                f"{row['fraction_of_peak'][row['precision']]:.2f} {row['precision']}",
            )
        table.add_section()
    rounds = ", ".join(f"{grid['num_rounds']} x {grid['num_steps']} steps" for grid in chains.values())
    table.caption = f"rounds: {rounds}; of textbook: median ratio inside a round, to frozen weights"
    return table


def of_profile(figures: dict[str, Any]) -> list[Any]:
    phases = _table("", "phase", "ms", "share")
    for phase, spent in figures["phases_s"].items():
        phases.add_row(phase, f"{1000 * spent:,.2f}", _percent(figures["phase_shares"][phase]))
    kinds = _table("", "kind", "share", "mostly")
    for kind, share in figures["class_shares"].items():
        kinds.add_row(kind, _percent(share), ", ".join(list(figures["largest"][kind])[:2]))
    return [
        *_heading(figures["machine"]),
        f"one update of {figures['batch']} images: {1000 * figures['update_s']:,.1f} ms, by phase",
        phases,
        "and by kind of work, under torch.profiler",
        kinds,
        f"What measuring costs: an update cut into phases takes {figures['in_parts_over_whole']:.2f} of a whole one's "
        f"time, with timers {figures['timers_over_none']:.2f} of that without, under torch.profiler "
        f"{figures['profiler_over_none']:.2f} of that without.",
        *figures["notes"],
    ]


def of_scaling(figures: dict[str, Any]) -> list[Any]:
    rates, speed_ups = figures["images_per_s"], figures["speed_up"]
    table = _table(
        f"images/s, {figures['num_rounds']} rounds, one thread a worker",
        "workers",
        "",
        "median",
        "slowest",
        "fastest",
        "of one",
        "of the ideal",
    )
    ratios = (
        ("Averaging gradients beside the chains", "without (speed.overlap=false)", figures["overlap_to_none"]),
        ("Workers that wait for each other", "of processes of the same shares, apart", figures["torchrun_to_apart"]),
    )
    titles = {"torchrun": "torchrun", "apart": "apart", "no_overlap": "no overlap", "ray": "Ray Train"}
    for way, of_way in rates.items():
        for count, values in of_way.items():
            speed_up = speed_ups[way][count]
            table.add_row(count, titles[way], *_spread(values), f"{speed_up:.2f}", f"{speed_up / int(count):.2f}")
    return [
        *_heading(figures["machine"]),
        table,
        f"Ray Train runs the loop at {figures['ray_to_torchrun']:.3f} of torchrun's rate (median of rounds).",
        *(f"{what}: {ratio:.3f} of the rate {of}." for what, of, ratio in ratios if ratio),
    ]


def _heading(machine: dict[str, Any]) -> list[str]:
    """What the figures are of, and beside what they were taken."""
    rates = ", ".join(f"{name} {rate / 1e9:,.0f}" for name, rate in machine["matrix_product_flop_per_s"].items())
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    beside = (
        f" Load when it began: {machine['load']:.1f} on {machine['cores']} cores, so other work ran beside."
        if machine["load"] > 1
        else ""
    )
    return [
        f"{machine['device']} ({machine['instructions']}), {machine['threads']} thread(s); {versions}.{beside}",
        f"matrix product, GFLOP/s: {rates}",
    ]


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title or None, title_justify="left", caption_justify="left")
    for column in columns:
        table.add_column(column, justify="left" if column in ("", "phase", "kind", "mostly") else "right")
    return table


def _spread(values: Iterable[float]) -> list[str]:
    values = list(values)
    return [f"{value:,.0f}" for value in (statistics.median(values), min(values), max(values))]


def _rate(rate: dict[str, float]) -> str:
    return f"{rate['median']:,.0f} ({rate['slowest']:,.0f} to {rate['fastest']:,.0f})"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _bytes(number: float) -> str:
    return f"{number / 2**20:,.1f} MiB"
