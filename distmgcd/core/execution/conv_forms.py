"""The forms that chains take a convolution in, each quickest for some shapes, and the layout of a network's maps.

DenseConv, of a tiny map, is one matrix product:

    y[b, (c', q)] = sum over (c, p) of x[b, (c, p)] matrix[(c, p), (c', q)] + bias[c']

p and q are the pixels of the two maps; the matrix holds the weight that leads from p to q, 0 where the kernel does not
reach. With frozen weights it is made once per chain.

ImageConv, of an image, has its gradient with respect to the image as one matrix product and a fold, on the CPU:

    columns[b, (c, t), q] = sum over c' of weight[c', c, t] gradient[b, c', q]          dx = fold(columns)

t is a tap of the kernel and q a pixel of the map; fold adds up what reaches the same pixel of the image. A convolution
of so few channels leaves most of a processor's vector unit idle. TapConv (tap_conv.py) is for many channels.

Forms are chosen by the shapes and the kind of device alone, so that every machine chooses alike. All of them equal the
convolution up to the order of their sums.
"""

import math
from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distmgcd.core.execution.tap_conv import Size, TapConv

_FEW_PIXELS = 4  # a product of so small a map is quicker than the set-up of a convolution, whatever the kernel
_MOST_CHANNELS = 4  # of an image
# Measured in fp32: from here on the gradient of a map is quicker with channels last; below, it costs a little.
_LEAST_SIZE = 16  # of the image
_LEAST_CHANNELS = 128  # of the widest convolution


class DenseConv(nn.Module):
    """A convolution of maps of one size, as a matrix product. Its weights are those of the convolution."""

    @staticmethod
    def pays(conv: nn.Conv2d, in_size: Size, out_size: Size, device: torch.device) -> bool:
        """A map with no more pixels than the kernel has costs no more multiply-adds as a product: the kernel of a
        convolution with "same" padding then mostly covers zeros."""
        return math.prod(in_size) <= max(math.prod(conv.kernel_size), _FEW_PIXELS)

    def __init__(self, conv: nn.Conv2d, in_size: Size, out_size: Size):
        super().__init__()
        self.conv, self.in_size, self.out_size = conv, in_size, out_size

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, *in_size] to [B, C', *out_size]."""
        y = x.flatten(1) @ self.matrix()
        if self.conv.bias is not None:
            y = y + self.conv.bias.repeat_interleave(math.prod(self.out_size))
        return y.view(-1, self.conv.out_channels, *self.out_size)

    def matrix(self) -> Tensor:
        """[C * pixels, C' * pixels']."""
        weight = self.conv.weight.permute(2, 3, 1, 0).contiguous()  # [k, k, C, C']
        zero = torch.zeros_like(weight[0, 0])
        taps = [zero if tap is None else weight[tap] for tap in self._taps()]
        pixels = math.prod(self.in_size), math.prod(self.out_size)
        return torch.stack(taps).unflatten(0, pixels).permute(2, 0, 3, 1).flatten(2).flatten(0, 1)

    def _taps(self) -> Iterator[tuple[int, int] | None]:
        """For each pixel p and each q, which tap of the kernel leads from p to q; None: none does."""
        (height, width), stride, padding = self.conv.kernel_size, self.conv.stride, self.conv.padding
        for (y, x), (below, right) in product(_pixels(self.in_size), _pixels(self.out_size)):
            row, column = y - stride[0] * below + padding[0], x - stride[1] * right + padding[1]
            yield (row, column) if 0 <= row < height and 0 <= column < width else None


def _pixels(size: Size) -> Iterator[tuple[int, int]]:
    return product(range(size[0]), range(size[1]))


class ImageConv(nn.Module):
    """A convolution of images of one size. It has a gradient by them only: chains freeze the weights."""

    @staticmethod
    def pays(conv: nn.Conv2d, in_size: Size, out_size: Size, device: torch.device) -> bool:
        """Where an image comes in."""
        return device.type == "cpu" and conv.in_channels <= _MOST_CHANNELS

    def __init__(self, conv: nn.Conv2d, in_size: Size, out_size: Size):
        super().__init__()
        self.conv, self.in_size = conv, in_size

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, *in_size] to [B, C', h, w]."""
        conv = self.conv
        return _WithFold.apply(x, conv.weight, conv.bias, conv.stride, conv.padding, self.in_size)


class _WithFold(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: Size, padding: Size, in_size: Size
    ) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.where = stride, padding, in_size
        return F.conv2d(x, weight, bias, stride, padding)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (weight,), (stride, padding, in_size) = ctx.saved_tensors, ctx.where
        columns = weight.flatten(1).T.contiguous() @ gradient.flatten(2)  # [B, C * taps, pixels]
        x = F.fold(columns, in_size, weight.shape[-2:], padding=padding, stride=stride)
        return x, None, None, None, None, None


_FORMS = (DenseConv, ImageConv, TapConv)  # the first that pays is taken


def quick_form(conv: nn.Conv2d, in_size: Size, out_size: Size, device: torch.device) -> nn.Module | None:
    """Another form of a convolution of maps of one size; None where the convolution itself is best."""
    if conv.groups != 1 or conv.dilation != (1, 1) or isinstance(conv.padding, str) or conv.padding_mode != "zeros":
        return None
    return next((form(conv, in_size, out_size) for form in _FORMS if form.pays(conv, in_size, out_size, device)), None)


def map_sizes(energy: nn.Module, x: Tensor) -> dict[str, tuple[Size, Size]]:
    """{name of a convolution: sizes of the maps that go in and come out} for images x [B, C, s, s]."""
    sizes: dict[str, tuple[Size, Size]] = {}

    def note(name: str, _: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        sizes[name] = tuple(inputs[0].shape[-2:]), tuple(output.shape[-2:])

    convs = [(name, module) for name, module in energy.named_modules() if isinstance(module, nn.Conv2d)]
    hooks = [conv.register_forward_hook(partial(note, name)) for name, conv in convs]
    with torch.no_grad():
        energy(x)
    for hook in hooks:
        hook.remove()
    return sizes


def put_quick_forms(network: nn.Module, sizes: dict[str, tuple[Size, Size]], device: torch.device) -> None:
    """Replace the convolutions of a network by what is quicker than they are."""
    for name, (in_size, out_size) in sizes.items():
        path, _, attribute = name.rpartition(".")
        holder = network.get_submodule(path)
        if form := quick_form(getattr(holder, attribute), in_size, out_size, device):
            setattr(holder, attribute, form)


def channels_last_pays(energy: nn.Module, x: Tensor) -> bool:
    """Whether the maps of an fp32 network are better kept as [B, s, s, C] in memory."""
    widest = max((module.out_channels for module in energy.modules() if isinstance(module, nn.Conv2d)), default=0)
    return x.device.type == "cpu" and x.shape[-1] >= _LEAST_SIZE and widest >= _LEAST_CHANNELS
