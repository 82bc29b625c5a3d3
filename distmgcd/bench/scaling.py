"""How images/s grow with the number of workers, and what Ray Train costs beside a plain torchrun of the same loop.

Every way is run in every round, one after the other, with the same global batch and one thread a worker, so that a
machine whose speed drifts treats them alike; ratios are taken inside a round.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from distmgcd.bench.machine import describe
from distmgcd.config import Config, to_yaml
from distmgcd.data import check_shares
from distmgcd.launch.start_run import debug, train
from distmgcd.models.assemble import overlaps
from distmgcd.runs.read_log import read_log
from distmgcd.runs.run_folder import Run
from distmgcd.runs.store import Store
from distmgcd.workers.collectives import choose_device


def bench_scaling(
    config: Config,
    *,
    worker_counts: Sequence[int],
    use_gpu: bool = False,
    num_rounds: int = 3,
    num_updates: int = 60,
) -> dict[str, Any]:
    """Images/s of every round with 1 and so many workers under torchrun, and with the most of them under Ray Train,
    where gradients are averaged beside the chains without that, and on the CPU apart: what this machine and small
    shares leave of the ideal before workers exchange a word.

    {"images_per_s": {"torchrun": {"1": [...], "4": [...]}, "apart": {"4": [...]}, "no_overlap": {"4": [...]},
    "ray": {"4": [...]}}, "speed_up": the same, of one worker}
    """
    machine = describe(choose_device(use_gpu))
    short = loop_only(config, min(num_updates, config.learning.num_updates))
    counts = sorted({1, *worker_counts})
    for count in counts:
        check_shares(config.learning.global_batch_size, count, count, block=config.learning.block_size or 1)
    runs = {"torchrun": under_torchrun, "apart": apart, "no_overlap": without_overlap, "ray": under_ray}
    if counts[-1] == 1 or not overlaps(config):
        del runs["no_overlap"]
    if counts[-1] == 1 or use_gpu or config.learning.global_batch_size % counts[-1]:
        del runs["apart"]
    ways = [(way, count) for way in runs for count in (counts if way == "torchrun" else counts[-1:])]
    rates: dict[str, dict[str, list[float]]] = {way: {} for way in runs}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(num_rounds):
            for way, count in ways:
                name = f"{way}-{count}-{number}"
                runs[way](short, folder, name, num_workers=count, use_gpu=use_gpu)
                rates[way].setdefault(str(count), []).append(rate_of(Path(folder) / name))
    one, most = rates["torchrun"]["1"], str(counts[-1])
    return {
        "machine": machine,
        "images_per_s": rates,
        "speed_up": {
            way: {count: _median_ratio(values, one) for count, values in of_way.items()}
            for way, of_way in rates.items()
        },
        "ray_to_torchrun": _median_ratio(rates["ray"][most], rates["torchrun"][most]),
        "overlap_to_none": _of_way(rates, "no_overlap", most),
        "torchrun_to_apart": _of_way(rates, "apart", most),
        "num_rounds": num_rounds,
        "num_updates": short.learning.num_updates,
        "threads_a_worker": 1,
    }


def bench_ray(config: Config, *, use_gpu: bool, num_workers: int, num_rounds: int = 3) -> dict[str, float]:
    """Images/s of the whole loop in this process and under Ray Train, in turn; ratios are of neighbours."""
    short = loop_only(config, 40)
    here, on_ray, ratios = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for name in map(str, range(num_rounds + 1)):
            debug(short, storage_path=folder, name=f"here{name}", use_gpu=use_gpu, plain=False)
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


def without_overlap(config: Config, folder: str, name: str, *, num_workers: int, use_gpu: bool) -> None:
    speed = config.speed.model_copy(update={"overlap": False})
    config = config.model_copy(update={"speed": speed})
    under_torchrun(config, folder, name, num_workers=num_workers, use_gpu=use_gpu)


def apart(config: Config, folder: str, name: str, *, num_workers: int, use_gpu: bool) -> None:
    """Runs of a share each, at the same time, that do not know of each other."""
    share = config.learning.global_batch_size // num_workers
    learning = config.learning.model_copy(update={"global_batch_size": share, "block_size": None})
    config = config.model_copy(update={"learning": learning})
    with ThreadPoolExecutor(num_workers) as threads:
        runs = [
            threads.submit(under_torchrun, config, f"{folder}/{name}", str(number), num_workers=1, use_gpu=use_gpu)
            for number in range(num_workers)
        ]
    for run in runs:
        run.result()


def under_ray(config: Config, folder: str, name: str, *, num_workers: int, use_gpu: bool) -> None:
    train(config, storage_path=folder, name=name, num_workers=num_workers, use_gpu=use_gpu, cpus_per_worker=1)


def rate_of(path: Path) -> float:
    """Images/s of a run, or of several that ran apart, together."""
    return median_rate(path) if (path / "log").exists() else sum(map(median_rate, path.iterdir()))


def median_rate(run: Path) -> float:
    """Images/s of the records but the first, which holds the start."""
    return statistics.median([r["images_per_s"] for r in read_log(Store(str(run))) if "images_per_s" in r][1:])


def _median_ratio(a: list[float], b: list[float]) -> float:
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


def _of_way(rates: dict[str, dict[str, list[float]]], way: str, count: str) -> float | None:
    """The rate under torchrun over that of another way, if that was run."""
    return _median_ratio(rates["torchrun"][count], rates[way][count]) if way in rates else None
