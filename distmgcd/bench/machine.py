"""The machine, the versions and the protocol: what one must know to compare a figure with another."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NotRequired, TypedDict

import torch

import distmgcd
from distmgcd.bench.timing import NUM_ROUNDS, SECONDS_EACH, Task, seconds
from distmgcd.core.execution.devices import fp32_products
from distmgcd.environment import usable_cpus

PEER_PACKAGES = ("ebmkit", "torchebm")
_MATRIX_SIZES = (512, 1024, 2048, 4096, 8192)
_LONGEST_PRODUCT = 0.2  # seconds; where a product takes longer, a larger one is not tried
_NUM_PRODUCTS = 9


class Machine(TypedDict):
    """The machine, the versions, and how busy it was."""

    device: str
    instructions: str  # the largest set of vector instructions that torch uses
    cores: int
    threads: int
    load: float  # processes that run or wait to run, in the last minute
    platform: str
    versions: dict[str, str]
    matrix_product_flop_per_s: dict[str, float]  # of every precision
    matrix_product_size: dict[str, int]
    eager_precision: str


class Protocol(TypedDict):
    """How everything is timed."""

    order: str
    most_rounds: int
    seconds_of_each_in_a_round: float
    figure: str
    clock: str
    rounds: NotRequired[int]


def describe(device: torch.device) -> Machine:
    """The machine, the versions, and how busy it is now."""
    versions = {"python": platform.python_version(), "torch": torch.__version__, "distmgcd": distmgcd.__version__}
    versions |= {name: found for name in PEER_PACKAGES if (found := version_of(name))}
    products = {name: matrix_product_rate(device, name) for name in _precisions(device)}
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {_processor()}",
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": usable_cpus(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
        "platform": platform.platform(),
        "versions": versions,
        "matrix_product_flop_per_s": {name: rate for name, (rate, _) in products.items()},
        "matrix_product_size": {name: size for name, (_, size) in products.items()},
        "eager_precision": eager_precision(device),
    }


def protocol() -> Protocol:
    """How everything is timed."""
    return {
        "order": "every contender in every round, the next round beginning with the next contender",
        "most_rounds": NUM_ROUNDS,
        "seconds_of_each_in_a_round": SECONDS_EACH,
        "figure": "median over rounds; ratios are taken inside a round",
        "clock": "time.perf_counter around calls, the device synchronised before and after",
    }


def matrix_product_rate(device: torch.device, precision: str) -> tuple[float, int]:
    """FLOP/s of a square matrix product, the best of several sizes, and that size; sizes end at products of 0.2 s."""
    best = (0.0, 0)
    for size in _MATRIX_SIZES:
        product = matrix_product(device, precision, size)
        fastest = min(seconds(product, device) for _ in range(_NUM_PRODUCTS))
        best = max(best, (2.0 * size**3 / fastest, size))
        if fastest > _LONGEST_PRODUCT:
            break
    return best


def matrix_product(device: torch.device, precision: str, size: int) -> Task:
    """A product of two square matrices; fp32 takes no TF32."""
    a, b = torch.randn(2, size, size, device=device).to(_DTYPES[precision])

    def product() -> torch.Tensor:
        with fp32_products(tf32=precision == "tf32"):
            return a @ b

    return product


def eager_precision(device: torch.device) -> str:
    """The precision of an fp32 network by default: on CUDA torch computes its convolutions in TF32."""
    convolutions = torch.backends.cudnn.conv  # pyright: ignore[reportAttributeAccessIssue]
    return "tf32" if device.type == "cuda" and convolutions.fp32_precision == "tf32" else "fp32"


_DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}


def _precisions(device: torch.device) -> tuple[str, ...]:
    return ("fp32", "tf32", "bf16") if device.type == "cuda" else ("fp32", "bf16")


def version_of(package: str) -> str | None:
    """The version of an installed package; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    """The processor's name on Linux, else the kind of machine."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
