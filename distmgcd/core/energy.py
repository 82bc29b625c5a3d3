"""The energy of an image at one grid, and of all grids together.

    U_s(x) = -f_s(x) + |x|^2 / (2 sigma^2)                 p_s(x) = exp(-U_s(x)) / Z_s

f_s is a bottom-up ConvNet with one output, sigma the deviation of the Gaussian reference distribution
(Gao et al. 2017, section 3.1); sigma = infinity is the uniform reference. x: [B, C, s, s], U: [B].
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

ACTIVATIONS = {
    "leaky_relu": lambda: nn.LeakyReLU(0.2),
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "elu": nn.ELU,
    "softplus": nn.Softplus,
}


@dataclass(frozen=True)
class ConvLayer:
    """One convolution with "same" padding: kernel and stride in pixels, number of output channels."""

    kernel: int
    stride: int
    channels: int


class ConvEnergy(nn.Module):
    """U of one grid: convolutions, each with an optional norm and an activation, then a dense layer to 1.

    norm: "none"; "layer" (over one image's channels and pixels); "spectral" (each weight divided by its
    largest singular value); or "batch", as the authors have it: statistics of the current batch, so that
    an image's energy depends on its neighbours in the batch.
    """

    def __init__(
        self,
        size: int,
        in_channels: int,
        layers: Sequence[ConvLayer],
        *,
        activation: str,
        norm: str,
        reference_sigma: float,
    ):
        super().__init__()
        self.reference_sigma = reference_sigma
        stack: list[nn.Module] = []
        for layer in layers:
            conv = nn.Conv2d(in_channels, layer.channels, layer.kernel, layer.stride, padding=layer.kernel // 2)
            stack += [conv, *_norm_layers(norm, layer.channels), ACTIVATIONS[activation]()]
            in_channels, size = layer.channels, -(-size // layer.stride)
        stack += [nn.Flatten(), nn.Linear(in_channels * size * size, 1, bias=False)]  # a constant cancels in the gap
        self.network = nn.Sequential(*stack)
        self._initialise()
        if norm == "spectral":
            for module in _weighted(self.network):
                spectral_norm(module)

    def forward(self, x: Tensor) -> Tensor:
        """U(x): [B, C, s, s] to [B], in fp32, or in fp64 where the weights are."""
        dtype = next(self.network.parameters()).dtype  # the network may be in bf16, its images are not
        energy = -self.network(x.to(dtype)).squeeze(1)
        energy = energy if dtype == torch.float64 else energy.float()
        if math.isfinite(self.reference_sigma):
            energy = energy + x.square().flatten(1).sum(1) / (2.0 * self.reference_sigma**2)
        return energy

    def maps(self, x: Tensor) -> list[Tensor]:
        """What every convolution makes of x [B, C, s, s], after norm and activation: [B, D_l, s_l, s_l], bottom up."""
        x, found = x.to(next(self.network.parameters()).dtype), []
        for module in self.network[:-2]:  # all but the flattening and the dense layer
            x = module(x)
            if isinstance(module, nn.Conv2d):
                found.append(x)
            else:
                found[-1] = x
        return found

    def _initialise(self) -> None:
        """Xavier weights and zero biases, as the authors' code."""
        for module in _weighted(self.network):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class MultiGridEnergy(nn.Module):
    """The energies of all grids, coarse to fine. No parameter is shared: the grids are independent learners."""

    def __init__(self, energies: Sequence[ConvEnergy]):
        super().__init__()
        self.grids = nn.ModuleList(energies)

    def forward(self, observed: Sequence[Tensor], synthesised: Sequence[Tensor]) -> Tensor:
        """Mean energies [2, G]: of the observed images, and of the synthesised ones, at every grid.

        One call covers both, so that under DDP one backward averages the gradient of every grid once.
        """
        with parametrize.cached():  # a spectral norm moves at every call in training; both halves need the same
            halves = [
                [energy(x).mean() for energy, x in zip(self.grids, images, strict=True)]
                for images in (observed, synthesised)
            ]
        return torch.stack([torch.stack(half) for half in halves])


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Inside, the weights take no gradient, and a spectral norm is computed once, not at every call."""
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
    """Inside, a spectral norm stays what one step of its power iteration has made it at the entry.

    As in one call of the model in training, whatever the number of calls inside.
    """
    training = model.training
    with torch.no_grad(), parametrize.cached():
        for module in _weighted(model):
            _ = module.weight  # computing it takes the step
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _norm_layers(norm: str, channels: int) -> list[nn.Module]:
    if norm == "layer":
        return [nn.GroupNorm(1, channels)]
    if norm == "batch":
        return [nn.BatchNorm2d(channels, track_running_stats=False)]  # no buffers: nothing to broadcast
    return []


def _weighted(network: nn.Module) -> Iterator[nn.Module]:
    return (m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear))
