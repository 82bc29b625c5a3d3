"""The Langevin samplers of other libraries, run with our network; the project does not depend on them.

    ours                     x <- x - (s^2 / 2) grad U + s sqrt(T) z
    ebmkit (MIT)             x <- x - e grad U + sigma z                   e = s^2 / 2, sigma = s sqrt(T)
    torchebm (MIT)           x <- x - e grad U + n sqrt(2 e) z             e = s^2 / 2, n = sqrt(T)

Each is used as its documentation says: ebm.LangevinDynamics.sample, torchebm.samplers.LangevinDynamics.sample, without
trajectory or diagnostics. ebmkit freezes the weights itself; for torchebm they are frozen here, which can only make it
faster. Both clamp at every step or never, so a clamp after the chain is applied to their result. On CUDA torchebm runs
a second time in its mixed precision (bf16 autocast). Its fused Triton step (torchebm.cuda, which calls itself a proof
of concept) cannot be reached from its sampler.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from distmgcd.bench.machine import eager_precision, version_of
from distmgcd.bench.timing import Contender, Task
from distmgcd.core.energy import ConvEnergy, frozen
from distmgcd.core.langevin import Langevin, chain_end

Sampler = Callable[[Tensor], Tensor]  # where chains start [B, C, s, s] to where they end


class Peer(NamedTuple):
    """A library's sampler."""

    package: str
    make: Callable[[ConvEnergy, Langevin, torch.device], Sampler]
    mixed: bool = False  # in its mixed precision, which is for CUDA only


def ebmkit(energy: ConvEnergy, settings: Langevin, device: torch.device) -> Sampler:
    import ebm  # pyright: ignore[reportMissingImports]

    sampler = ebm.LangevinDynamics(
        step_size=settings.drift_scale,
        steps=settings.num_steps,
        noise_scale=settings.noise_std,
        clamp=(-1.0, 1.0) if settings.clamp == "step" else None,
    )
    return lambda x: chain_end(sampler.sample(energy, x), settings)


def torchebm(energy: ConvEnergy, settings: Langevin, device: torch.device, *, bf16: bool = False) -> Sampler:
    from torchebm.core import BaseModel  # pyright: ignore[reportMissingImports]
    from torchebm.samplers import LangevinDynamics  # pyright: ignore[reportMissingImports]

    model = type("Model", (BaseModel,), {"forward": lambda self, x: self.energy(x)})(device=device)
    model.energy = energy
    sampler = LangevinDynamics(
        model,
        step_size=settings.drift_scale,
        noise_scale=math.sqrt(settings.temperature),
        clamp=(-1.0, 1.0) if settings.clamp == "step" else None,
        device=device,
    )
    for part in (model, sampler) if bf16 else ():
        part.setup_mixed_precision(True, torch.bfloat16)
    return lambda x: chain_end(sampler.sample(x=x, n_steps=settings.num_steps), settings)


PEERS = (
    Peer("ebmkit", ebmkit),
    Peer("torchebm", torchebm),
    Peer("torchebm", lambda *arguments: torchebm(*arguments, bf16=True), mixed=True),
)


def drive(energy: ConvEnergy, x: Tensor, settings: Langevin) -> tuple[dict[str, Contender], list[str]]:
    """{name and version: contender} of every library that is installed, and a sentence for each other one."""
    contenders, notes = {}, []
    for peer in PEERS:
        if peer.mixed and x.device.type != "cuda":
            continue
        if (version := version_of(peer.package)) is None:
            notes.append(
                f"{peer.package} is not installed, so it is not compared; pip install 'distmgcd[benchmark]' brings it."
            )
            continue
        name = f"{peer.package} {version}" + (" bf16" if peer.mixed else "")
        try:
            task = _task(peer.make(energy, settings, x.device), energy, x)
            task()
        except Exception as error:  # another version of it, say: the others can be compared all the same
            notes.append(f"{name} could not be driven ({type(error).__name__}: {error}), so it is not compared.")
        else:
            contenders[name] = Contender("peer", task, "bf16" if peer.mixed else eager_precision(x.device))
    return contenders, notes


def _task(sample: Sampler, energy: ConvEnergy, x: Tensor) -> Task:
    def run() -> Tensor:
        with frozen(energy):
            return sample(x)

    return run
