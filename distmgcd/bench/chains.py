"""How fast the chains of every grid run: our executions, a textbook's loops, and other libraries where installed.

chain-steps/s   Langevin steps of single images: a step of a batch of B counts B
peak            fraction of this machine's matrix product in the same precision, measured in the same rounds; a
                chain-step costs 4 FLOP a multiply-add of the network: forward and gradient of the image

All contenders walk from the same images through the same network with the same number of steps, step size and noise
deviation, and none of them records anything on the way.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from distmgcd.bench import timing
from distmgcd.bench.machine import eager_precision, matrix_product
from distmgcd.bench.peers import drive
from distmgcd.bench.timing import Contender
from distmgcd.config import Config
from distmgcd.config.cost import multiply_adds
from distmgcd.core.energy import ConvEnergy, frozen
from distmgcd.core.execution.devices import fp32_products
from distmgcd.core.execution.executors import ChainExecutor, Speed, executor_of
from distmgcd.core.langevin import Langevin, run_chain
from distmgcd.core.synthesis import ChainNoise
from distmgcd.models.assemble import make_langevin, make_model

_LEAST_STEPS = 3  # of a measured chain whose steps are slow
PEERS_BATCH_ON_CPU = 32  # at most, beside other libraries

# Whatever stands here is measured everywhere that it can run. Training takes auto if nothing is said.
AUTO = "auto"
EXECUTIONS = {
    "plain": Speed("plain", "fp32", False),
    "traced": Speed("traced", "fp32", False),
    "compiled": Speed("compiled", "fp32", False),
    "captured": Speed("captured", "fp32", False),
    AUTO: Speed(),
}


def executions(device: torch.device) -> dict[str, tuple[ChainExecutor, str]]:
    """{name: (what walks the chains, precision of the network)} of those that this device can run."""
    runnable = {name: speed for name, speed in EXECUTIONS.items() if name != "captured" or device.type == "cuda"}
    return {name: (executor_of(speed), speed.on(device).precision) for name, speed in runnable.items()}


def bench_chains(
    config: Config, device: torch.device, machine: dict[str, Any], *, with_peers: bool = False
) -> tuple[dict[str, Any], list[str]]:
    """{size of the grid: figures}, and a sentence for every library that could not be driven."""
    batch = config.learning.global_batch_size
    if with_peers and device.type == "cpu":
        batch = min(batch, PEERS_BATCH_ON_CPU)
    model, figures, notes = make_model(config).to(device), {}, []
    for grid, (size, settings) in enumerate(zip(config.grids.sizes, make_langevin(config), strict=True)):
        x = torch.rand(batch, config.data.channels, size, size, device=device) * 2 - 1
        settings = settings._replace(num_steps=affordable_steps(model.grids[grid], x, settings))
        contenders = contenders_of(model.grids[grid], x, grid, settings)
        if with_peers:
            peers, missing = drive(model.grids[grid], x, settings)
            contenders |= peers
            notes += [note for note in missing if note not in notes]
        flop = 4.0 * multiply_adds(config, grid)
        products = products_beside(contenders, device, machine)
        figures[str(size)] = compare(contenders, products, device, batch=batch, settings=settings, flop=flop)
    return figures, notes


def contenders_of(energy: ConvEnergy, x: Tensor, grid: int, settings: Langevin) -> dict[str, Contender]:
    """Our executions, and the loop as a textbook has it: on frozen weights, and on live ones."""
    noise = ChainNoise(torch.arange(len(x), device=x.device), seed=0)

    def ours(executor: ChainExecutor) -> None:
        with frozen(energy):
            executor.run_chain(energy, x, noise(grid, tuple(x.shape[1:]), settings.num_steps), settings)

    def textbook() -> None:
        with frozen(energy):
            textbook_chain(energy, x, settings)

    def textbook_in_fp32() -> None:
        with fp32_products(tf32=False):
            textbook()

    default = eager_precision(x.device)
    contenders = {
        name: Contender("ours", lambda executor=executor: ours(executor), precision)
        for name, (executor, precision) in executions(x.device).items()
    }
    contenders["textbook, frozen"] = Contender("textbook", textbook, default)
    contenders["textbook, live"] = Contender("textbook", lambda: live_chain(energy, x, settings), default)
    if default != "fp32":
        contenders["textbook, fp32"] = Contender("textbook", textbook_in_fp32, "fp32")
    return contenders


class Product(NamedTuple):
    task: timing.Task
    flop: float


def products_beside(
    contenders: dict[str, Contender], device: torch.device, machine: dict[str, Any]
) -> dict[str, Product]:
    """{precision: a matrix product} of every precision that is used, and of the one that is fastest here."""
    rates, sizes = machine["matrix_product_flop_per_s"], machine["matrix_product_size"]
    used = {contender.precision for contender in contenders.values()} | {fastest_precision(rates)}
    return {
        precision: Product(matrix_product(device, precision, sizes[precision]), 2.0 * sizes[precision] ** 3)
        for precision in sorted(used)
    }


def fastest_precision(rates: dict[str, float]) -> str:
    """Of bf16 and fp32, whichever a matrix product is faster in on this machine."""
    return max(("bf16", "fp32"), key=rates.__getitem__)


def compare(
    contenders: dict[str, Contender],
    products: dict[str, Product],
    device: torch.device,
    *,
    batch: int,
    settings: Langevin,
    flop: float,
) -> dict[str, Any]:
    """The figures of one grid. flop: of one chain-step."""
    first_calls = {name: timing.seconds(contender.task, device) for name, contender in contenders.items()}
    times = timing.in_turn({name: one.task for name, one in (contenders | products).items()}, device)
    chain_steps = batch * settings.num_steps
    in_fp32 = "textbook, fp32" if "textbook, fp32" in times else "textbook, frozen"
    rows = {}
    for name, contender in contenders.items():
        rate = timing.rates(chain_steps, times[name])
        rows[name] = {
            "kind": contender.kind,
            "precision": contender.precision,
            "chain_steps_per_s": rate,
            "of_textbook": timing.times_as_fast(times[name], times["textbook, frozen"]),
            "of_fp32_textbook": timing.times_as_fast(times[name], times[in_fp32]),
            "fraction_of_peak": {
                precision: flop * chain_steps / product.flop * timing.times_as_fast(times[name], times[precision])
                for precision, product in products.items()
            },
            "first_call_s": first_calls[name],  # with what it compiles or captures
        }
    ours = [name for name, contender in contenders.items() if contender.kind == "ours"]
    peers = [name for name, contender in contenders.items() if contender.kind == "peer"]
    return {
        "batch": batch,
        "num_steps": settings.num_steps,
        "num_rounds": len(times["textbook, frozen"]),
        "flop_per_chain_step": flop,
        "contenders": rows,
        "of_peers": {name: {peer: timing.times_as_fast(times[name], times[peer]) for peer in peers} for name in ours},
    }


def affordable_steps(energy: ConvEnergy, x: Tensor, settings: Langevin) -> int:
    """As many steps as the config has, or as a round has time for: a step's time does not depend on their number."""
    one = settings._replace(num_steps=1)
    noise = ChainNoise(torch.arange(len(x), device=x.device), seed=0)

    def step() -> None:
        run_chain(energy, x, noise(0, tuple(x.shape[1:]), 1), one)

    with frozen(energy):
        step()
        once = timing.seconds(step, x.device)
    return min(settings.num_steps, max(_LEAST_STEPS, round(timing.SECONDS_EACH / once)))


def textbook_chain(energy: Callable[[Tensor], Tensor], x: Tensor, settings: Langevin) -> Tensor:
    """x <- x - (s^2 / 2) grad U + s sqrt(T) z, as one would write it in a notebook."""
    for _ in range(settings.num_steps):
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(energy(x).sum(), x)
        x = x.detach() - settings.drift_scale * gradient + settings.noise_std * torch.randn_like(x)
    return x


def live_chain(energy: ConvEnergy, x: Tensor, settings: Langevin) -> Tensor:
    """The same as much research code has it: backward() on live weights, whose gradients nobody wants."""
    for _ in range(settings.num_steps):
        x = x.detach().requires_grad_()
        energy(x).sum().backward()
        x = x.detach() - settings.drift_scale * x.grad + settings.noise_std * torch.randn_like(x)
    energy.zero_grad()
    return x
