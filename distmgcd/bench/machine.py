"""What was measured, on what, and beside what: everything that a figure needs to be compared with another."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import distmgcd
from distmgcd.bench.timing import NUM_ROUNDS, SECONDS_EACH, seconds

PEER_PACKAGES = ("ebmkit", "torchebm")
_MATRIX_SIZES = (512, 1024, 2048, 4096, 8192)
_LONGEST_PRODUCT = 0.2  # seconds; where a product takes longer, a larger one is not tried
_NUM_PRODUCTS = 8


def describe(device: torch.device) -> dict[str, Any]:
    """The machine, the versions, and how busy it is now."""
    versions = {"python": platform.python_version(), "torch": torch.__version__, "distmgcd": distmgcd.__version__}
    versions |= {name: found for name in PEER_PACKAGES if (found := version_of(name))}
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {_processor()}",
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
        "platform": platform.platform(),
        "versions": versions,
        "matrix_product_flop_per_s": {name: matrix_product_rate(device, name) for name in _precisions(device)},
        "convolutions_in_tf32": device.type == "cuda" and torch.backends.cudnn.allow_tf32,  # torch's default
    }


def protocol() -> dict[str, Any]:
    """How everything is timed."""
    return {
        "order": "every contender in every round, the next round beginning with the next contender",
        "most_rounds": NUM_ROUNDS,
        "seconds_of_each_in_a_round": SECONDS_EACH,
        "figure": "median over rounds; ratios are taken inside a round",
        "clock": "time.perf_counter around calls, the device synchronised before and after",
    }


def matrix_product_rate(device: torch.device, precision: str) -> float:
    """FLOP/s of a square matrix product, the best of several of the sizes that take no longer than 0.2 s."""
    allowed = torch.backends.cuda.matmul.allow_tf32
    best = 0.0
    try:
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        for size in _MATRIX_SIZES:
            a, b = torch.randn(2, size, size, device=device).to(_DTYPES[precision])
            once = seconds(lambda a=a, b=b: a @ b, device)
            times = [once, *(seconds(lambda a=a, b=b: a @ b, device) for _ in range(_NUM_PRODUCTS))]
            best = max(best, 2.0 * size**3 / min(times))
            if min(times) > _LONGEST_PRODUCT:
                break
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed
    return best


_DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}


def _precisions(device: torch.device) -> tuple[str, ...]:
    return ("fp32", "tf32", "bf16") if device.type == "cuda" else ("fp32", "bf16")


def version_of(package: str) -> str | None:
    """Of an installed package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    """The processor's name, where Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
