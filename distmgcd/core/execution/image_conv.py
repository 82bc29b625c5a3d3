"""The convolution that meets the image: its gradient by the image as one matrix product and a fold, on the CPU.

    columns[b, (c, t), q] = sum over c' of weight[c', c, t] gradient[b, c', q]          dx = fold(columns)

t is a tap of the kernel and q a pixel of the map; fold adds up what reaches the same pixel of the image. A convolution
with so few channels leaves most of a processor's vector idle.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distmgcd.core.execution.small_map_conv import Size

_MOST_CHANNELS = 4  # of an image


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
