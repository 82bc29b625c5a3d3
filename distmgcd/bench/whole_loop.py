"""The whole training loop in this process and under Ray Train, in turn; the ratios are of neighbours."""

import statistics
import tempfile
from pathlib import Path

from distmgcd.bench.scaling import loop_only, median_rate
from distmgcd.config import Config
from distmgcd.launch.start_run import debug, train


def bench_ray(config: Config, *, use_gpu: bool, num_workers: int, num_rounds: int = 3) -> dict[str, float]:
    """Images/s of both, as the run's own log has them."""
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
