"""Residual networks and heads: their formula, shapes and symmetries, and that traced chains are the plain ones."""

import math
from collections.abc import Callable

import pytest
import torch
from small_models import small_energy, small_residual_energy
from torch import nn
from torch.nn.functional import avg_pool2d, conv2d, silu
from torch.nn.utils.parametrizations import _SpectralNorm

from distmgcd.core.energy import frozen
from distmgcd.core.execution.executors import PLAIN, Speed, TracedExecutor
from distmgcd.core.langevin import Langevin
from distmgcd.core.networks import ConvLayer, ResidualBlock, residual
from distmgcd.core.noise import Purpose, normals

NORMS = ("none", "layer", "spectral", "batch")


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def test_a_residual_network_is_its_formula():
    net = residual(4, 1, [ConvLayer(3, 2, 2), ConvLayer(3, 2, 3)], activation="silu", norm="none", head="sum").double()
    x = torch.randn(5, 1, 4, 4, dtype=torch.float64)
    w = [p.detach() for p in net.parameters()]
    assert [tuple(p.shape) for p in w[::2][:3]] == [(2, 1, 3, 3), (2, 2, 3, 3), (2, 2, 3, 3)]
    h = conv2d(x, w[0], w[1], padding=1)
    h = (h + conv2d(silu(conv2d(silu(h), w[2], w[3], padding=1)), w[4], w[5], padding=1)) / math.sqrt(2)
    h = avg_pool2d(h, 2)
    body = conv2d(silu(conv2d(silu(h), w[6], w[7], padding=1)), w[8], w[9], padding=1)
    h = (conv2d(h, w[10]) + body) / math.sqrt(2)
    torch.testing.assert_close(net(x), silu(h).sum((2, 3)) @ w[11].T)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 8])
@pytest.mark.parametrize("head", ["dense", "sum"])
def test_any_size_is_pooled_upwards_and_never_below_a_pixel(size: int, head: str):
    energy = small_residual_energy(size, head=head)
    assert energy(torch.zeros(2, 1, size, size)).shape == (2,)
    assert energy.maps(torch.zeros(2, 1, size, size))[-1].shape[-1] == math.ceil(size / 4)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("head", ["dense", "sum"])
def test_the_gradient_equals_finite_differences(norm: str, head: str):
    energy = small_residual_energy(4, norm=norm, head=head, reference_sigma=0.8).double().eval()
    x = torch.randn(3, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(energy(x).sum(), x)
    with torch.no_grad():
        shifts = 1e-6 * torch.eye(x.numel(), dtype=x.dtype).view(-1, *x.shape)
        differences = torch.stack([(energy(x + shift) - energy(x - shift)).sum() / 2e-6 for shift in shifts])
    torch.testing.assert_close(gradient.flatten(), differences, rtol=1e-6, atol=1e-6)


def test_a_block_keeps_the_size_of_its_values():
    """Of unit variance in, about as much out: the sum of two such parts is divided by sqrt 2."""
    block = ResidualBlock(64, ConvLayer(3, 1, 64), activation="leaky_relu", norm="layer")
    with torch.no_grad():
        out = block(torch.randn(8, 64, 16, 16))
    assert 0.7 < out.std() < 1.3


def test_a_sum_head_is_blind_to_place_and_a_dense_one_is_not():
    image = torch.zeros(1, 1, 32, 32, dtype=torch.float64)
    image[..., 14:18, 14:18] = torch.rand(4, 4)
    moved = image.roll((4, -4), dims=(2, 3))  # by whole pooled pixels; neither is seen together with a border
    layers = [ConvLayer(3, 2, 4), ConvLayer(3, 1, 5)]
    for head, same in (("sum", True), ("dense", False)):
        net = residual(32, 1, layers, activation="silu", norm="none", head=head).double()
        with torch.no_grad():
            assert torch.allclose(net(image), net(moved), rtol=1e-9) == same


@pytest.mark.parametrize("make", [small_energy, small_residual_energy])
@pytest.mark.parametrize("norm", NORMS)
def test_the_last_map_gives_the_energy(make: Callable, norm: str):
    energy, x = make(8, norm=norm).eval(), torch.randn(5, 1, 8, 8)
    torch.testing.assert_close(-energy.network[-2:](energy.maps(x)[-1]).squeeze(1), energy(x))


def test_every_convolution_of_a_block_has_its_spectral_norm_computed_once_per_chain(monkeypatch: pytest.MonkeyPatch):
    energy, calls, compute = small_residual_energy(8, norm="spectral"), [], _SpectralNorm.forward
    num_weighted = sum(isinstance(m, nn.Conv2d | nn.Linear) for m in energy.modules())
    assert num_weighted == 1 + 3 * 2 + 1 + 1  # first, blocks, the one skip that changes the width, head
    monkeypatch.setattr(_SpectralNorm, "forward", lambda self, weight: calls.append(1) or compute(self, weight))
    chain(TracedExecutor(Speed("traced", "fp32", False)), energy, torch.zeros(2, 1, 8, 8))
    assert len(calls) == num_weighted


def chain(executor: TracedExecutor, energy: nn.Module, x: torch.Tensor, num_steps: int = 5) -> torch.Tensor:
    settings = Langevin(num_steps=num_steps, step_size=0.5, temperature=1e-3, clamp="end")
    noise = normals(torch.arange(len(x)), tuple(x.shape[1:]), num_steps, seed=1, purpose=Purpose.CHAIN)
    with frozen(energy):
        return executor.run_chain(energy, x, noise, settings)[0]


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("head", ["dense", "sum"])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("size", [2, 8])  # convolutions as matrix products, and not
def test_traced_chains_are_the_plain_ones(size: int, norm: str, head: str, channels_last: bool):
    energy = small_residual_energy(size, 3, norm=norm, head=head, reference_sigma=2.0)
    x = torch.rand(6, 3, size, size) * 2 - 1
    expected, found = chain(PLAIN, energy, x), chain(TracedExecutor(Speed("traced", "fp32", channels_last)), energy, x)
    assert float((found - expected).norm() / expected.norm()) < 1e-5
    assert float((expected - x).norm() / x.norm()) > 1e-2


def test_in_bf16_a_step_is_near_the_plain_one():
    energy, x = small_residual_energy(8, 3, head="sum"), torch.rand(6, 3, 8, 8) * 2 - 1
    plain, rounded = (chain(w, energy, x, 1) for w in (PLAIN, TracedExecutor(Speed("traced", "bf16"))))
    moved = (plain - x).norm()
    assert 0 < float((plain - rounded).norm() / moved) < 0.05
