"""A convolution of a tiny map as one matrix product.

    y[b, (c', q)] = sum over (c, p) of x[b, (c, p)] matrix[(c, p), (c', q)] + bias[c']

p and q are the pixels of the two maps, and the matrix holds the weight that leads from p to q: 0 where the kernel does
not reach. Equal to the convolution up to the order of its sums. With frozen weights the matrix is made once a chain.
"""

import math
from collections.abc import Iterator
from itertools import product

import torch
from torch import Tensor, nn

Size = tuple[int, int]  # height and width of a map

_FEW_PIXELS = 4  # a product of so small a map is quicker than the set-up of a convolution, whatever the kernel


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
