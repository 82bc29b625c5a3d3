"""The energy of an image at one grid, and of all grids together.

    U_s(x) = -f_s(x) + |x|^2 / (2 sigma^2)                 p_s(x) = exp(-U_s(x)) / Z_s

f_s is a bottom-up ConvNet with one output, sigma the deviation of the Gaussian reference distribution
(Gao et al. 2017, section 3.1); sigma = infinity is the uniform reference. x: [B, C, s, s], U: [B].
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from distmgcd.core.networks import ResidualBlock, weighted


class ConvEnergy(nn.Module):
    """U of one grid, from a network f: [B, C, s, s] to [B, 1], whose last two modules are its head."""

    def __init__(self, network: nn.Sequential, *, reference_sigma: float):
        super().__init__()
        self.network, self.reference_sigma = network, reference_sigma

    def forward(self, x: Tensor) -> Tensor:
        """U(x): [B, C, s, s] to [B], in fp32, or in fp64 where the weights are."""
        dtype = next(self.network.parameters()).dtype  # the network may be in bf16, its images are not
        energy = -self.network(x.to(dtype)).squeeze(1)
        energy = energy if dtype == torch.float64 else energy.float()
        if math.isfinite(self.reference_sigma):
            energy = energy + x.square().flatten(1).sum(1) / (2.0 * self.reference_sigma**2)
        return energy

    def maps(self, x: Tensor) -> list[Tensor]:
        """The feature maps of x [B, C, s, s] after every convolution or residual block: [B, D_l, s_l, s_l], bottom up.

        Taken after the norm, activation and pooling that follow it.
        """
        x, found = x.to(next(self.network.parameters()).dtype), []
        for module in self.network[:-2]:  # all but the head
            x = module(x)
            if isinstance(module, nn.Conv2d | ResidualBlock):
                found.append(x)
            else:
                found[-1] = x
        return found


class MultiGridEnergy(nn.Module):
    """The energies of all grids, coarse to fine. No parameter is shared: the grids are independent learners."""

    def __init__(self, energies: Iterable[ConvEnergy]):
        super().__init__()
        self.grids = nn.ModuleList(energies)

    @property
    def energies(self) -> list[ConvEnergy]:
        """The energy of every grid, coarse to fine."""
        return cast(list[ConvEnergy], list(self.grids))

    def forward(self, observed: Sequence[Tensor], synthesised: Sequence[Tensor]) -> Tensor:
        """Mean energies [2, G]: of the observed images, and of the synthesised ones, at every grid.

        One call covers both, so that under DDP one backward averages the gradient of every grid once.
        """
        with parametrize.cached():  # a spectral norm changes at every call in training; both halves need the same
            halves = [
                [energy(x).mean() for energy, x in zip(self.energies, images, strict=True)]
                for images in (observed, synthesised)
            ]
        return torch.stack([torch.stack(half) for half in halves])


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Context in which the weights take no gradient and a spectral norm is computed once, not at every call."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    training = model.training
    with ExitStack() as stack:
        stack.enter_context(parametrize.cached())
        model.eval()
        for parameter in parameters:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            model.train(training)
            for parameter in parameters:
                parameter.requires_grad_(True)


@contextmanager
def frozen_norms(model: nn.Module) -> Iterator[None]:
    """Context in which a spectral norm stays as it is after one step of its power iteration.

    So many calls inside change it as much as one call of the model in training does.
    """
    training = model.training
    with torch.no_grad(), parametrize.cached():
        for module in weighted(model):
            _ = module.weight  # computing it takes the step
    model.eval()
    try:
        yield
    finally:
        model.train(training)
