"""The forms in which chains take a convolution are that convolution, and its gradient."""

import pytest
import torch
from torch import nn

from distmgcd.core.energy import ConvEnergy, frozen
from distmgcd.core.execution.conv_forms import DenseConv, ImageConv, channels_last_pays, quick_form
from distmgcd.core.execution.executors import PLAIN, Speed, executor_of
from distmgcd.core.execution.tap_conv import TapConv
from distmgcd.core.execution.traced import quick_network
from distmgcd.core.langevin import Langevin
from distmgcd.core.networks import ConvLayer, convnet

CPU, GPU = torch.device("cpu"), torch.device("cuda")
FORMS = (DenseConv, ImageConv, TapConv)


def assert_equal(form: type[nn.Module], conv: nn.Conv2d, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    x = torch.randn(7, conv.in_channels, *size, dtype=torch.float64, requires_grad=True)
    y = conv(x)
    found = form(conv, size, tuple(y.shape[-2:]))(x)
    torch.testing.assert_close(found, y, rtol=1e-12, atol=1e-12)
    gradient = torch.randn_like(y)
    (expected,) = torch.autograd.grad(y, x, gradient)
    torch.testing.assert_close(torch.autograd.grad(found, x, gradient)[0], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (3, 2), (5, 2), (3, 3)])
@pytest.mark.parametrize("bias", [True, False])
def test_every_form_is_the_convolution_and_its_gradient(form, size: int, kernel: int, stride: int, bias: bool):
    assert_equal(form, nn.Conv2d(3, 5, kernel, stride, padding=kernel // 2, bias=bias).double(), (size, size))


@pytest.mark.parametrize("form", FORMS)
def test_maps_and_kernels_may_be_oblong(form):
    assert_equal(form, nn.Conv2d(2, 3, (3, 1), (1, 2), padding=(1, 0)).double(), (3, 2))
    assert_equal(form, nn.Conv2d(2, 3, (1, 5), (2, 1), padding=(0, 2)).double(), (4, 3))


def form_of(channels: tuple[int, int], kernel: int, stride: int, size: int, device: torch.device, **how: object):
    conv = nn.Conv2d(*channels, kernel, stride, padding=kernel // 2, **how)
    out = -(-size // stride)
    return type(quick_form(conv, (size, size), (out, out), device))


def test_the_product_is_taken_where_the_map_has_no_more_pixels_than_the_kernel_or_four():
    for device in (CPU, GPU):
        taken = {k: [s for s in range(1, 9) if form_of((8, 8), k, 1, s, device) is DenseConv] for k in (1, 3, 5)}
        assert taken == {1: [1, 2], 3: [1, 2, 3], 5: [1, 2, 3, 4, 5]}


def test_images_and_padded_maps_have_forms_of_their_own_on_the_cpu():
    assert form_of((3, 64), 5, 2, 64, CPU) is ImageConv and form_of((1, 32), 3, 1, 8, CPU) is ImageConv
    assert form_of((256, 512), 5, 2, 8, CPU) is TapConv and form_of((128, 128), 3, 1, 4, CPU) is TapConv
    nothing = type(None)
    assert form_of((64, 64), 3, 1, 4, CPU) is nothing  # few channels
    assert form_of((128, 256), 5, 2, 16, CPU) is nothing  # little padding
    assert form_of((3, 64), 5, 2, 64, GPU) is nothing and form_of((256, 512), 5, 2, 8, GPU) is nothing


@pytest.mark.parametrize("how", [{"groups": 2}, {"dilation": 2}, {"padding_mode": "reflect"}])
def test_unusual_convolutions_stay(how: dict):
    assert form_of((8, 8), 3, 1, 2, CPU, **how) is type(None)


def test_large_networks_have_their_channels_last_on_the_cpu():
    def found(size: int, channels: int, device: str = "cpu") -> bool:
        layers = [ConvLayer(3, 2, channels // 2), ConvLayer(3, 2, channels)]
        energy = ConvEnergy(convnet(size, 3, layers, activation="silu", norm="none"), reference_sigma=1.0)
        return channels_last_pays(energy.to(device), torch.empty(1, 3, size, size, device=device))

    assert found(16, 128) and found(64, 256)
    assert not found(8, 128) and not found(16, 64) and not found(64, 256, "meta")


@pytest.mark.parametrize("norm", ["none", "spectral"])
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("bf16", 0.05)])
def test_chains_through_all_forms_are_the_plain_ones(norm: str, precision: str, tolerance: float):
    torch.manual_seed(1)
    layers = [ConvLayer(3, 2, 128), ConvLayer(3, 1, 128), ConvLayer(3, 2, 128), ConvLayer(3, 1, 8)]
    energy = ConvEnergy(convnet(8, 3, layers, activation="leaky_relu", norm=norm), reference_sigma=1.0)
    x = torch.rand(5, 3, 8, 8) * 2 - 1
    forms = {type(module) for module in quick_network(energy, x).modules()}
    assert {DenseConv, ImageConv, TapConv} <= forms
    noise = [torch.randn_like(x) for _ in range(10)]
    langevin = Langevin(10, 0.1, 0.01, "end")
    with frozen(energy):
        expected, _ = PLAIN.run_chain(energy, x, noise, langevin)
        found, _ = executor_of(Speed("traced", precision)).run_chain(energy, x, noise, langevin)
    assert 0 < float((found - expected).norm() / (expected - x).norm()) < tolerance
