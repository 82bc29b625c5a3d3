"""The networks of the paper, the reference term, the gradient, and what freezing does."""

import math

import pytest
import torch
from small_models import small_energy, small_model
from torch import nn
from torch.nn.utils.parametrizations import _SpectralNorm

from distmgcd.config import PAPER_LAYERS
from distmgcd.core.energy import ConvEnergy, frozen
from distmgcd.core.networks import ACTIVATIONS, ConvLayer, convnet

NORMS = ("none", "layer", "spectral", "batch")


def paper_energy(size: int) -> ConvEnergy:
    layers = [ConvLayer(*layer) for layer in PAPER_LAYERS[size]]
    return ConvEnergy(convnet(size, 3, layers, activation="leaky_relu", norm="batch"), reference_sigma=math.inf)


def multiplications(energy: ConvEnergy, image: torch.Tensor) -> int:
    """Multiply-accumulates of one forward pass of one image, counted from the shapes that go through."""
    counts = []

    def count(module: nn.Module, _: object, output: torch.Tensor) -> None:
        counts.append(output.numel() * module.weight[0].numel())

    for module in energy.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    energy(image)
    return sum(counts)


@pytest.mark.parametrize(("size", "parameters", "mmac"), [(4, 0.42, 1.7), (16, 1.63, 102), (64, 4.32, 162)])
def test_the_papers_networks_have_their_sizes_and_costs(size, parameters, mmac):
    energy = paper_energy(size)
    assert sum(p.numel() for p in energy.parameters()) / 1e6 == pytest.approx(
        parameters, abs=0.005
    )  # two digits are printed
    assert multiplications(energy, torch.zeros(1, 3, size, size)) / 1e6 == pytest.approx(mmac, rel=0.03)


@pytest.mark.parametrize("channels", [1, 3])
def test_an_energy_is_one_fp32_number_per_image(channels):
    u = small_energy(8, channels).bfloat16()(torch.zeros(5, channels, 8, 8, dtype=torch.bfloat16))
    assert u.shape == (5,) and u.dtype == torch.float32


def test_an_energy_of_fp64_images_is_fp64():
    exact = small_energy(8).double()
    x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = exact(x)
    assert found.dtype == torch.float64
    assert torch.equal(found, -exact.network(x).squeeze(1))


@pytest.mark.parametrize("size", [3, 5, 7, 8])
def test_same_padding_halves_odd_sizes_upwards(size):
    assert small_energy(size)(torch.zeros(2, 1, size, size)).shape == (2,)


def test_the_reference_term_is_the_squared_length_over_twice_the_variance():
    torch.manual_seed(0)
    x, sigma = torch.randn(4, 1, 8, 8), 0.7
    energy = small_energy(8, reference_sigma=sigma)
    uniform = small_energy(8)
    uniform.load_state_dict(energy.state_dict())
    torch.testing.assert_close(energy(x) - uniform(x), x.square().sum((1, 2, 3)) / (2 * sigma**2))


def test_a_network_of_value_zero_leaves_only_the_reference():
    energy = small_energy(8, reference_sigma=0.5)
    nn.init.zeros_(energy.network[-1].weight)
    x = torch.randn(3, 1, 8, 8, requires_grad=True)
    (gradient,) = torch.autograd.grad(energy(x).sum(), x)
    torch.testing.assert_close(gradient, x.detach() / 0.25)


def test_energy_is_minus_the_networks_output():
    energy, x = small_energy(8), torch.randn(3, 1, 8, 8)
    assert torch.equal(energy(x), -energy.network(x)[:, 0])


@pytest.mark.parametrize("activation", ["silu", "gelu", "softplus", "elu"])
@pytest.mark.parametrize("norm", NORMS)
def test_the_gradient_equals_finite_differences(norm, activation):
    torch.manual_seed(0)
    energy = small_energy(4, norm=norm, activation=activation, reference_sigma=0.8).double().eval()
    x = torch.randn(3, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(energy(x).sum(), x)

    def u(x: torch.Tensor) -> torch.Tensor:  # the module itself returns fp32
        return -energy.network(x).sum() + x.square().sum() / (2 * 0.8**2)

    with torch.no_grad():
        shifts = 1e-6 * torch.eye(x.numel(), dtype=x.dtype).view(-1, *x.shape)
        differences = torch.stack([(u(x + shift) - u(x - shift)) / 2e-6 for shift in shifts])
    torch.testing.assert_close(gradient.flatten(), differences, rtol=1e-6, atol=1e-6)


def test_every_named_activation_makes_an_energy():
    assert all(torch.isfinite(small_energy(4, activation=name)(torch.ones(1, 1, 4, 4))) for name in ACTIVATIONS)


@pytest.mark.parametrize("norm", NORMS)
def test_only_batch_norm_makes_an_energy_depend_on_its_neighbours(norm):
    torch.manual_seed(0)
    energy, x = small_energy(8, norm=norm).eval(), torch.randn(6, 1, 8, 8)
    together, apart = energy(x), torch.cat([energy(image) for image in x.split(1)])
    assert torch.allclose(together, apart, rtol=1e-5, atol=1e-6) == (norm != "batch")


def test_a_spectral_norm_brings_the_largest_singular_value_to_one():
    torch.manual_seed(0)
    energy = small_energy(8, norm="spectral")
    for _ in range(100):
        energy(torch.zeros(1, 1, 8, 8))
    weighted = [m for m in energy.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(weighted) == 3
    for module in weighted:
        assert torch.linalg.matrix_norm(module.weight.flatten(1), ord=2).item() == pytest.approx(1, abs=1e-3)


@pytest.fixture
def spectral_calls(monkeypatch):
    """One entry for each time a spectral norm is computed."""
    calls, compute = [], _SpectralNorm.forward
    monkeypatch.setattr(_SpectralNorm, "forward", lambda self, weight: calls.append(1) or compute(self, weight))
    return calls


def test_inside_frozen_a_spectral_norm_is_computed_once_and_does_not_move(spectral_calls):
    model, x = small_model(norm="spectral"), torch.randn(2, 1, 4, 4)
    buffers = [buffer.clone() for buffer in model.buffers()]
    spectral_calls.clear()
    with frozen(model):
        energies = [model.grids[0](x) for _ in range(5)]
    assert len(spectral_calls) == 3  # two convolutions and the dense layer
    assert all(torch.equal(u, energies[0]) for u in energies)
    assert all(map(torch.equal, model.buffers(), buffers))


def test_a_spectral_norm_is_recomputed_after_frozen():
    model, x = small_model(norm="spectral"), torch.randn(2, 1, 4, 4)
    with frozen(model):
        before = model.grids[0](x)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    with frozen(model):
        assert not torch.allclose(model.grids[0](x), before)


def test_observed_and_synthesised_images_see_the_same_spectral_norm(spectral_calls):
    model, images = small_model(norm="spectral"), [torch.randn(2, 1, size, size) for size in (4, 8)]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))  # so that the norm is still on its way
    spectral_calls.clear()
    energies = model(images, images)
    assert torch.equal(energies[0], energies[1])
    assert len(spectral_calls) == 6


def test_the_model_returns_mean_energies_of_both_halves_at_every_grid():
    model = small_model()
    observed, synthesised = ([torch.randn(3, 1, size, size) for size in (4, 8)] for _ in range(2))
    energies = model(observed, synthesised)
    assert energies.shape == (2, 2)
    torch.testing.assert_close(energies[0, 1], model.grids[1](observed[1]).mean())
    torch.testing.assert_close(energies[1, 0], model.grids[0](synthesised[0]).mean())


@pytest.mark.parametrize("norm", NORMS)
def test_frozen_weights_take_no_gradient_though_images_do(norm):
    model, x = small_model(norm=norm), torch.randn(2, 1, 4, 4, requires_grad=True)
    with frozen(model):
        model.grids[0](x).sum().backward()
    assert x.grad is not None and all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("training", [True, False])
def test_frozen_gives_back_the_modes_even_after_an_error(training):
    model = small_model().train(training)
    first, *others = model.parameters()
    first.requires_grad_(False)  # and keeps what was frozen before
    with pytest.raises(RuntimeError, match="shape|channels|size"), frozen(model):
        assert not model.training and not any(p.requires_grad for p in model.parameters())
        model.grids[0](torch.zeros(1, 7, 4, 4))
    assert all(module.training == training for module in model.modules())
    assert not first.requires_grad and all(p.requires_grad for p in others)


@pytest.mark.parametrize("norm", NORMS)
def test_the_maps_are_what_the_layers_see_and_the_last_one_gives_the_energy(norm: str):
    energy = small_energy(8, norm=norm).eval()
    x = torch.randn(5, 1, 8, 8)
    first, last = energy.maps(x)
    assert first.shape == (5, 6, 4, 4) and last.shape == (5, 8, 4, 4)
    torch.testing.assert_close(-energy.network[-1](last.flatten(1)).squeeze(1), energy(x))
    torch.testing.assert_close(
        energy.network[3:6](first) if norm in ("layer", "batch") else energy.network[2:4](first), last
    )
