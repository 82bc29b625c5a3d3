"""How far a Langevin step is from detailed balance: the acceptance rate of a Metropolis-adjusted one.

    x' = x - (s^2 / 2) grad U(x) + s sqrt(T) z                  what the chain does next, as a proposal
    log q(x' | x) = -|x' - x + (s^2 / 2) grad U(x)|^2 / (2 s^2 T) + constant
    acceptance = min(1, exp((U(x) - U(x')) / T + log q(x | x') - log q(x' | x)))         for the target exp(-U / T)

A chain is not changed by it: this is a probe. Near 1 the unadjusted chain samples its energy nearly without bias; 0.574
is the best rate of an adjusted chain in many dimensions (Roberts, Rosenthal 1998); near 0 the step is far too long for
that target, and what the chain draws is a matter of its number of steps (a short-run model). The clamp is left out.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from distmgcd.core.langevin import Energy, Langevin


class Probe(NamedTuple):
    """Of every chain [B], in fp64."""

    energy: Tensor  # U(x)
    drift_rms: Tensor  # of (s^2 / 2) grad U(x)
    acceptance: Tensor  # of the next step; nan at temperature 0, which has no such target


def probe(energy: Energy, x: Tensor, noise: Tensor, langevin: Langevin) -> Probe:
    """At x [B, C, H, W], with the standard normal noise of the next step; the energy is of frozen weights and fp64,
    because U / T of a cold chain spends the digits of fp32.
    """
    x, noise = x.double(), noise.double()
    u, drift = _energy_and_drift(energy, x, langevin)
    proposed = x - drift + langevin.noise_std * noise
    u_there, drift_there = _energy_and_drift(energy, proposed, langevin)
    drift_rms = drift.square().flatten(1).mean(1).sqrt()
    if langevin.temperature == 0:
        return Probe(u, drift_rms, torch.full_like(u, torch.nan))
    there = -0.5 * noise.square().flatten(1).sum(1)
    back = -0.5 * ((x - proposed + drift_there) / langevin.noise_std).square().flatten(1).sum(1)
    log_ratio = (u - u_there) / langevin.temperature + back - there
    return Probe(u, drift_rms, log_ratio.clamp(max=0.0).exp())


def _energy_and_drift(energy: Energy, x: Tensor, langevin: Langevin) -> tuple[Tensor, Tensor]:
    x = x.detach().requires_grad_()
    u = energy(x)
    (gradient,) = torch.autograd.grad(u.sum(), x)
    return u.detach(), gradient * langevin.drift_scale
