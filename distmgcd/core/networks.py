"""The networks f_s of the energies: bottom-up ConvNets with one output, f: [B, C, s, s] to [B, 1].

    convnet     convolutions, each with an optional norm and an activation, then a head    (Gao et al. 2017, section 4)
    residual    pre-activation residual blocks with average pooling between them, then a head
                x <- (skip(x) + conv(act(conv(act(x))))) / sqrt 2        (He et al. 2016, arXiv 1603.05027)

Heads: "dense", a linear layer over every value of the last maps; "sum", over their sums over all pixels, so that f does
not know where in the image something is.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

Head = Literal["dense", "sum"]

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
    """One convolution with "same" padding: kernel and stride in pixels, number of output channels.

    Of a residual network: one block, of two such convolutions; the stride is that of the average pooling after it.
    """

    kernel: int
    stride: int
    channels: int


def convnet(
    size: int, in_channels: int, layers: Sequence[ConvLayer], *, activation: str, norm: str, head: Head = "dense"
) -> nn.Sequential:
    """Convolutions, each with its stride.

    norm: "none"; "layer" (over one image's channels and pixels); "spectral" (each weight divided by its largest
    singular value); or "batch", as the authors have it: statistics of the current batch, so that an image's energy
    depends on its neighbours in the batch.
    """
    stack: list[nn.Module] = []
    for layer in layers:
        conv = _conv(in_channels, layer.channels, layer.kernel, stride=layer.stride)
        stack += [conv, *_norm_layers(norm, layer.channels), ACTIVATIONS[activation]()]
        in_channels, size = layer.channels, -(-size // layer.stride)
    return _initialised(nn.Sequential(*stack, *_head(head, in_channels, size)), norm)


def residual(
    size: int, in_channels: int, layers: Sequence[ConvLayer], *, activation: str, norm: str, head: Head = "dense"
) -> nn.Sequential:
    """A convolution to the first width, then one residual block per layer, each but the last followed by its pooling.

    norm: as of convnet, before every activation.
    """
    width = layers[0].channels
    stack: list[nn.Module] = [_conv(in_channels, width, layers[0].kernel)]
    for number, layer in enumerate(layers):
        stack.append(ResidualBlock(width, layer, activation=activation, norm=norm))
        width, stride = layer.channels, layer.stride
        if number + 1 < len(layers) and stride > 1 and size > 1:
            stack.append(nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False))
            size = -(-size // stride)
    stack += [*_norm_layers(norm, width), ACTIVATIONS[activation]()]
    return _initialised(nn.Sequential(*stack, *_head(head, width, size)), norm)


NETWORKS = {"convnet": convnet, "residual": residual}


class ResidualBlock(nn.Module):
    """[B, D, h, w] to [B, D', h, w]: two convolutions beside a skip, a 1x1 convolution where the width changes.

    Their sum is divided by sqrt 2, so that a deep network has values as large as a shallow one.
    """

    def __init__(self, in_channels: int, layer: ConvLayer, *, activation: str, norm: str):
        super().__init__()
        width, kernel = layer.channels, layer.kernel
        self.body = nn.Sequential(
            *_norm_layers(norm, in_channels),
            ACTIVATIONS[activation](),
            _conv(in_channels, width, kernel),
            *_norm_layers(norm, width),
            ACTIVATIONS[activation](),
            _conv(width, width, kernel),
        )
        self.skip = nn.Identity() if in_channels == width else nn.Conv2d(in_channels, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return (self.skip(x) + self.body(x)) * math.sqrt(0.5)


class SumOverPixels(nn.Module):
    """The sum of every map over its pixels: [B, D, h, w] to [B, D]."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sum((2, 3))


def weighted(network: nn.Module) -> Iterator[nn.Conv2d | nn.Linear]:
    """The convolutions and linear layers of a network."""
    return (m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear))


def _conv(in_channels: int, out_channels: int, kernel: int, *, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2)


def _head(head: Head, channels: int, size: int) -> list[nn.Module]:
    if head == "sum":
        return [SumOverPixels(), nn.Linear(channels, 1, bias=False)]
    return [nn.Flatten(), nn.Linear(channels * size * size, 1, bias=False)]  # a constant cancels in the gap


def _norm_layers(norm: str, channels: int) -> list[nn.Module]:
    if norm == "layer":
        return [nn.GroupNorm(1, channels)]
    if norm == "batch":
        return [nn.BatchNorm2d(channels, track_running_stats=False)]  # no buffers: nothing to broadcast
    return []


def _initialised(network: nn.Sequential, norm: str) -> nn.Sequential:
    """Xavier weights and zero biases, as the authors' code; then a spectral norm, where one is asked for."""
    for module in weighted(network):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    if norm == "spectral":
        for module in weighted(network):
            spectral_norm(module)
    return network
