"""One Langevin step, and a chain of them.

    x <- x - (s^2 / 2) grad U(x) + s sqrt(T) z          z ~ N(0, I), drawn separately for every image

with target exp(-U / T): s is the step size, T the temperature; T = 1 is Langevin dynamics proper, T = 0
gradient descent. x, z: [B, C, H, W] in fp32; U: [B, C, H, W] -> [B]. A chain may hold some pixels where they are:
then it samples the others given these.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Energy = Callable[[Tensor], Tensor]


class Langevin(NamedTuple):
    """How the chains of one grid move."""

    num_steps: int
    step_size: float  # s, in units of pixel values, which span [-1, 1]
    temperature: float  # T
    clamp: Literal["none", "end", "step"]  # keep pixels in [-1, 1]: never, after the chain, at every step
    # Factors on the noise of the first and of the last step; between, they lie on a line. Noise that falls to 0
    # over a climb ends where the energy is low, as the coarse-to-fine chains of Zhao et al. 2021 (ICLR) do.
    cooling: tuple[float, float] = (1.0, 1.0)

    @property
    def drift_scale(self) -> float:
        """s^2 / 2, by which the gradient is multiplied."""
        return 0.5 * self.step_size**2

    @property
    def noise_std(self) -> float:
        """s sqrt(T), the deviation of one step's noise."""
        return self.step_size * math.sqrt(self.temperature)

    def noise_factor(self, step: int) -> float:
        """The factor on the noise of a step, from 0; after the last one it stays as it is there."""
        first, last = self.cooling
        return first + (last - first) * min(1.0, step / max(1, self.num_steps - 1))


class StepInfo(NamedTuple):
    """What one step did, for a human. Nothing here feeds the next step."""

    energy: Tensor  # [B] U where the step started
    drift: Tensor  # [B, C, H, W] (s^2 / 2) grad U


class FixedPixels(NamedTuple):
    """The pixels that a chain leaves as they are."""

    pixels: Tensor  # [B, C, H, W], read where the chain does not move
    free: Tensor  # bool [B, 1, H, W], where it does

    def put_back(self, x: Tensor) -> Tensor:
        """x with the fixed pixels as they are, bit for bit."""
        return torch.where(self.free, x, self.pixels)


def langevin_step(
    energy: Energy, x: Tensor, noise: Tensor, langevin: Langevin, fixed: FixedPixels | None = None
) -> tuple[Tensor, StepInfo]:
    """One step from x with the given standard normal noise. The energy's weights should be frozen."""
    return langevin_update(x, *energy_and_grad(energy, x), noise, langevin, fixed)


def energy_and_grad(energy: Energy, x: Tensor) -> tuple[Tensor, Tensor]:
    """U(x) [B] and grad U(x) [B, C, H, W]."""
    x = x.detach().requires_grad_()
    u = energy(x)
    (gradient,) = torch.autograd.grad(u.sum(), x)
    return u.detach(), gradient


def langevin_update(
    x: Tensor, u: Tensor, gradient: Tensor, noise: Tensor, langevin: Langevin, fixed: FixedPixels | None = None
) -> tuple[Tensor, StepInfo]:
    """The step itself, from x down its slope."""
    with torch.no_grad():
        drift = gradient * langevin.drift_scale
        x = torch.add(x - drift, noise, alpha=langevin.noise_std)
        if langevin.clamp == "step":
            x.clamp_(-1.0, 1.0)
        if fixed is not None:
            x = fixed.put_back(x)
    return x, StepInfo(u, drift)


def cooled(noise: Iterable[Tensor], langevin: Langevin) -> Iterable[Tensor]:
    """The noise of a chain, each step's times its factor."""
    if langevin.cooling == (1.0, 1.0):
        return noise
    return (z * langevin.noise_factor(step) for step, z in enumerate(noise))


def iter_steps(
    energy: Energy, x: Tensor, noise: Iterable[Tensor], langevin: Langevin, fixed: FixedPixels | None = None
) -> Iterator[tuple[Tensor, StepInfo]]:
    """The chain from x, step by step; noise yields one [B, C, H, W] a step."""
    for z in noise:
        x, info = langevin_step(energy, x, z, langevin, fixed)
        yield x, info


def run_chain(
    energy: Energy, x: Tensor, noise: Iterable[Tensor], langevin: Langevin, fixed: FixedPixels | None = None
) -> tuple[Tensor, StepInfo | None]:
    """The end of the chain from x, and what its last step did (None for a chain of no steps)."""
    info = None
    for z in noise:
        x, info = langevin_step(energy, x, z, langevin, fixed)
    return chain_end(x, langevin, fixed), info


def chain_end(x: Tensor, langevin: Langevin, fixed: FixedPixels | None = None) -> Tensor:
    """What a chain gives after its last step."""
    if langevin.clamp == "end":
        x = x.clamp(-1.0, 1.0)
        if fixed is not None:  # observed pixels with noise on them may lie outside
            x = fixed.put_back(x)
    return x
