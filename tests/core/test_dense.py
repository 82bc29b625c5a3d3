"""A convolution of a tiny map is one matrix product."""

import pytest
import torch
from torch import nn

from distmgcd.core.dense import DenseConv, pays

KERNELS = ((1, 1), (3, 1), (3, 2), (5, 2), (3, 3))  # and strides


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize(("kernel", "stride"), KERNELS)
def test_the_product_is_the_convolution(size: int, kernel: int, stride: int):
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 5, kernel, stride, padding=kernel // 2).double()
    x = torch.randn(7, 3, size, size, dtype=torch.float64)
    y = conv(x)
    torch.testing.assert_close(DenseConv(conv, (size, size), tuple(y.shape[-2:]))(x), y, rtol=1e-12, atol=1e-12)


def test_maps_and_kernels_may_be_oblong():
    conv = nn.Conv2d(2, 3, (3, 1), (1, 2), padding=(1, 0)).double()
    x = torch.randn(4, 2, 3, 2, dtype=torch.float64)
    y = conv(x)
    torch.testing.assert_close(DenseConv(conv, (3, 2), tuple(y.shape[-2:]))(x), y, rtol=1e-12, atol=1e-12)


def test_it_pays_where_the_map_has_no_more_pixels_than_the_kernel_or_four():
    def found(kernel: int, size: int, **how: object) -> bool:
        return pays(nn.Conv2d(4, 4, kernel, padding=kernel // 2, **how), (size, size))

    assert [size for size in range(1, 9) if found(1, size)] == [1, 2]
    assert [size for size in range(1, 9) if found(3, size)] == [1, 2, 3]
    assert [size for size in range(1, 9) if found(5, size)] == [1, 2, 3, 4, 5]
    assert not found(3, 2, groups=2) and not found(3, 2, dilation=2) and not found(3, 2, padding_mode="reflect")
