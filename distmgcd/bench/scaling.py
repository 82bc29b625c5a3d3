"""How images/s grow with the number of workers, and what Ray Train costs beside a plain torchrun of the same loop.

Every way is run in every round, one after the other, with the same global batch and one thread a worker, so that a
machine whose speed drifts treats them alike; ratios are taken inside a round.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.table import Table

from distmgcd.config import Config, to_yaml
from distmgcd.launch import train
from distmgcd.runs.run import METRICS_FILE, Run


def bench_scaling(
    config: Config, *, num_workers: int, use_gpu: bool = False, num_rounds: int = 3, num_updates: int = 60
) -> dict[str, Any]:
    """Images/s of every round: {"one": [...], "torchrun": [...], "ray": [...]}, and the medians of their ratios."""
    short = loop_only(config, min(num_updates, config.learning.num_updates))
    ways: dict[str, Callable[[str, str], None]] = {
        "one": lambda folder, name: under_torchrun(short, folder, name, num_workers=1, use_gpu=use_gpu),
        "torchrun": lambda folder, name: under_torchrun(short, folder, name, num_workers=num_workers, use_gpu=use_gpu),
        "ray": lambda folder, name: under_ray(short, folder, name, num_workers=num_workers, use_gpu=use_gpu),
    }
    rates: dict[str, list[float]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(num_rounds):
            for way, run in ways.items():
                run(folder, f"{way}{number}")
                rates[way].append(median_rate(Path(folder) / f"{way}{number}"))
    return {
        "num_workers": num_workers,
        "images_per_s": rates,
        "speed_up": _median_ratio(rates["torchrun"], rates["one"]),
        "speed_up_on_ray": _median_ratio(rates["ray"], rates["one"]),
        "ray_to_torchrun": _median_ratio(rates["ray"], rates["torchrun"]),
    }


def loop_only(config: Config, num_updates: int) -> Config:
    """The same run, short, and with next to nothing but updates in it."""
    return config.model_copy(
        update={
            "learning": config.learning.model_copy(update={"num_updates": num_updates, "warmup": 0}),
            "evaluate": config.evaluate.model_copy(update={"every": 0, "num_samples": 16, "num_draws": 1}),
            "checkpoint": config.checkpoint.model_copy(update={"every": num_updates}),
            "log": config.log.model_copy(update={"every": 5 if num_updates > 20 else 1}),
        }
    )


def under_torchrun(config: Config, folder: str, name: str, *, num_workers: int, use_gpu: bool) -> None:
    run = Run.at(folder, name)
    run.store.write("config.yaml", to_yaml(config).encode())
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={num_workers}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **({} if use_gpu else {"CUDA_VISIBLE_DEVICES": ""})}
    done = subprocess.run(
        [*command, "-m", "distmgcd.training.torchrun", str(Path(folder) / name)],
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"torchrun failed:\n{done.stderr[-2000:]}")


def under_ray(config: Config, folder: str, name: str, *, num_workers: int, use_gpu: bool) -> None:
    train(config, storage_path=folder, name=name, num_workers=num_workers, use_gpu=use_gpu, cpus_per_worker=1)


def median_rate(run: Path) -> float:
    """Images/s of the records but the first, which holds the start."""
    records = [json.loads(line) for line in (run / "log" / METRICS_FILE).read_text().splitlines()]
    return statistics.median([r["images_per_s"] for r in records if "images_per_s" in r][1:])


def table_of_scaling(figures: dict[str, Any]) -> list[Any]:
    """The figures for a person."""
    num, rates = figures["num_workers"], figures["images_per_s"]
    table = Table(title=f"images/s, {len(rates['one'])} rounds, one thread a worker", title_justify="left")
    for column in ("", "median", "from", "to", "of one worker"):
        table.add_column(column, justify="right" if column else "left")
    ways = {"one": ("1 worker, torchrun", 1.0), "torchrun": (f"{num} workers, torchrun", figures["speed_up"])}
    ways["ray"] = (f"{num} workers, Ray Train", figures["speed_up_on_ray"])
    for way, (title, ratio) in ways.items():
        values = rates[way]
        table.add_row(
            title, *(f"{value:,.0f}" for value in (statistics.median(values), min(values), max(values))), f"{ratio:.2f}"
        )
    return [
        table,
        f"Ray Train runs the loop at {figures['ray_to_torchrun']:.3f} of torchrun's rate (median of rounds).",
    ]


def _median_ratio(a: list[float], b: list[float]) -> float:
    return statistics.median(x / y for x, y in zip(a, b, strict=True))
