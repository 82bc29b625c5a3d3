"""A convolution of a small map with many channels as one matrix product for every tap of its kernel, on the CPU.

    y[q] = sum over taps t of x[stride q + t - padding] weight[t]

with pixels first, [h, w, B, C], so that all images and all pixels q that a tap serves are the rows of one product. A
tap serves only those q whose x lies on the map: where the kernel is large beside the map, a quarter of the
multiply-adds and more would be those of padding, which a convolution carries out.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

Size = tuple[int, int]  # height and width of a map

_LEAST_CHANNELS = 128  # with fewer, adding up the products takes longer than what they save
_MOST_SERVED = 0.75  # of the pixels of y, by a tap on average


class TapConv(nn.Module):
    """A convolution of maps of one size, tap by tap. It has a gradient by x only: chains freeze the weights."""

    @staticmethod
    def pays(conv: nn.Conv2d, in_size: Size, out_size: Size, device: torch.device) -> bool:
        """Where there are many channels, and padding is a quarter of what a convolution multiplies."""
        if device.type != "cpu" or min(conv.in_channels, conv.out_channels) < _LEAST_CHANNELS:
            return False
        served = 1.0
        for axis in range(2):
            how = conv.kernel_size[axis], conv.stride[axis], conv.padding[axis], in_size[axis], out_size[axis]
            served *= sum(len(span.of_y) for span in _spans(*how)) / (conv.kernel_size[axis] * out_size[axis])
        return served <= _MOST_SERVED

    def __init__(self, conv: nn.Conv2d, in_size: Size, out_size: Size):
        super().__init__()
        self.conv, self.in_size, self.out_size = conv, in_size, out_size

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, *in_size] to [B, C', *out_size]."""
        y = _ByTaps.apply(x, self.conv.weight, self.out_size, self.conv.stride, self.conv.padding)
        return y if self.conv.bias is None else y + self.conv.bias[:, None, None]


class _ByTaps(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, out_size: Any, stride: Any, padding: Any) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.where = tuple(x.shape[-2:]), stride, padding
        taps = weight.permute(2, 3, 1, 0).contiguous()  # [k, k, C, C']
        return torch.ops.distmgcd.conv_by_taps(x, taps, out_size, stride, padding)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (weight,), (in_size, stride, padding) = ctx.saved_tensors, ctx.where
        taps = weight.permute(2, 3, 0, 1).contiguous()  # [k, k, C', C]
        return (
            torch.ops.distmgcd.conv_by_taps_backward(gradient, taps, in_size, stride, padding),
            None,
            None,
            None,
            None,
        )


class _Span(NamedTuple):
    """The pixels that a tap leads between, along one axis."""

    tap: int
    of_x: slice
    of_y: range


def _spans(kernel: int, stride: int, padding: int, in_size: int, out_size: int) -> Iterator[_Span]:
    for tap in range(kernel):
        served = [y for y in range(out_size) if 0 <= stride * y + tap - padding < in_size]
        if served:
            first = stride * served[0] + tap - padding
            yield _Span(
                tap, slice(first, first + stride * (len(served) - 1) + 1, stride), range(served[0], served[-1] + 1)
            )


def _places(taps: Tensor, in_size: list[int], out_size: list[int], stride: list[int], padding: list[int]) -> Iterator:
    """Of every tap: its matrix, and where it reads and writes."""
    rows, columns = (
        list(_spans(taps.shape[axis], stride[axis], padding[axis], in_size[axis], out_size[axis])) for axis in range(2)
    )
    for row in rows:
        for column in columns:
            of_y = (slice(row.of_y.start, row.of_y.stop), slice(column.of_y.start, column.of_y.stop))
            yield taps[row.tap, column.tap], (row.of_x, column.of_x), of_y


def _conv(x: Tensor, taps: Tensor, out_size: list[int], stride: list[int], padding: list[int]) -> Tensor:
    pixels_first = x.permute(2, 3, 0, 1).contiguous()
    y = x.new_zeros(*out_size, len(x), taps.shape[-1])
    for matrix, of_x, of_y in _places(taps, x.shape[-2:], out_size, stride, padding):
        y[of_y] += _product(pixels_first[of_x], matrix)
    return y.permute(2, 3, 0, 1).contiguous()


def _conv_backward(gradient: Tensor, taps: Tensor, in_size: list[int], stride: list[int], padding: list[int]) -> Tensor:
    pixels_first = gradient.permute(2, 3, 0, 1).contiguous()
    x = gradient.new_zeros(*in_size, len(gradient), taps.shape[-1])
    for matrix, of_x, of_y in _places(taps, in_size, gradient.shape[-2:], stride, padding):
        x[of_x] += _product(pixels_first[of_y], matrix)
    return x.permute(2, 3, 0, 1).contiguous()


def _product(maps: Tensor, matrix: Tensor) -> Tensor:
    """Of [h, w, B, C] and [C, C'], all rows at once: torch would make h products of a part of a map."""
    return (maps.reshape(-1, maps.shape[-1]) @ matrix).view(*maps.shape[:-1], -1)


def _like(maps: Tensor, taps: Tensor, size: list[int], stride: list[int], padding: list[int]) -> Tensor:
    return maps.new_empty(len(maps), taps.shape[-1], *size)


# Operators of their own: a trace takes them as a whole, and inside they may add up in place.
_library = torch.library.Library("distmgcd", "DEF")
for _name, _function in (("conv_by_taps", _conv), ("conv_by_taps_backward", _conv_backward)):
    _library.define(f"{_name}(Tensor maps, Tensor taps, int[] size, int[] stride, int[] padding) -> Tensor")
    _library.impl(_name, _function, "CPU")
    _library.impl(_name, _like, "Meta")
