"""The traced gradient is autograd's, and holds no weight."""

from copy import deepcopy

import pytest
import torch
from small_models import small_energy
from torch import Tensor, nn

from distmgcd.core.energy import frozen
from distmgcd.core.execution import traced
from distmgcd.core.execution.traced import TracedGradient, record, split
from distmgcd.core.langevin import energy_and_grad
from distmgcd.core.networks import ACTIVATIONS

NORMS = ("none", "layer", "spectral", "batch")


def images(size: int, channels: int = 1) -> Tensor:
    torch.manual_seed(1)
    return torch.rand(6, channels, size, size) * 2 - 1


def step_of_traced(energy: nn.Module, x: Tensor, **how: object) -> tuple[Tensor, Tensor]:
    with frozen(energy):
        found = TracedGradient(energy, x, **how)
        return found.step(x, *found.prepare(energy))


def plain(energy: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    with frozen(energy):
        return energy_and_grad(energy, x)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("norm", NORMS)
def test_with_convolutions_as_they_are_it_is_that_of_autograd_bit_for_bit(
    monkeypatch: pytest.MonkeyPatch, norm: str, activation: str
):
    monkeypatch.setattr(traced, "put_quick_forms", lambda *_: None)
    energy, x = small_energy(8, norm=norm, activation=activation, reference_sigma=2.0), images(8)
    assert all(map(torch.equal, step_of_traced(energy, x), plain(energy, x)))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("size", [2, 3, 4, 8])
def test_with_convolutions_in_other_forms_it_is_that_of_autograd_up_to_rounding(size: int, norm: str, activation: str):
    energy, x = small_energy(size, 3, norm=norm, activation=activation, reference_sigma=2.0), images(size, 3)
    for found, expected in zip(step_of_traced(energy, x), plain(energy, x), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("norm", NORMS)
def test_channels_last_is_the_same_up_to_rounding(norm: str):
    energy, x = small_energy(8, norm=norm), images(8)
    for found, expected in zip(step_of_traced(energy, x, channels_last=True), plain(energy, x), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("norm", NORMS)
def test_in_bf16_energy_and_gradient_are_fp32_and_near(norm: str):
    energy, x = small_energy(8, norm=norm, reference_sigma=2.0), images(8)
    for found, expected in zip(step_of_traced(energy, x, dtype=torch.bfloat16), plain(energy, x), strict=True):
        assert found.dtype == torch.float32
        assert 0 < (found - expected).norm() < 0.03 * expected.norm()


def test_a_step_does_nothing_that_depends_on_the_weights_alone():
    energy, x = small_energy(2, reference_sigma=2.0), images(2)
    found = TracedGradient(energy, x, dtype=torch.bfloat16)
    calls = [str(node.target) for node in found.step.graph.nodes if node.op == "call_function"]
    assert not [name for name in calls if name.split(".")[1] in ("stack", "ones", "t", "permute", "convolution")]
    assert not list(found.step.parameters()) and not list(found.step.buffers())


def test_one_trace_serves_other_weights():
    energy, x = small_energy(4), images(4)
    other = deepcopy(energy)
    with frozen(energy), frozen(other):
        found = TracedGradient(energy, x)
        for parameter in other.parameters():
            parameter.add_(torch.randn_like(parameter))
        torch.testing.assert_close(found.step(x, *found.prepare(other)), energy_and_grad(other, x))
        assert not torch.allclose(found.step(x, *found.prepare(energy))[1], energy_and_grad(other, x)[1])


@pytest.mark.parametrize("norm", NORMS)
def test_tracing_leaves_the_energy_as_it_was(norm: str):
    energy, x = small_energy(4, norm=norm), images(4)
    twin = deepcopy(energy)
    step_of_traced(energy, x)
    assert all(map(torch.equal, energy.state_dict().values(), twin.state_dict().values()))
    assert energy.state_dict().keys() == twin.state_dict().keys()
    optimizer = torch.optim.SGD(energy.parameters(), lr=0.1)
    energy(x).sum().backward()
    optimizer.step()


def test_what_changes_a_tensor_in_place_is_not_traced():
    with pytest.raises(NotImplementedError, match="in place"):
        record(lambda x: (x.clone().mul_(2),), torch.ones(2))


def test_a_tensor_from_elsewhere_is_not_traced():
    secret = torch.ones(2)
    with pytest.raises(NotImplementedError, match="no weight"):
        record(lambda x: (x + secret,), torch.ones(2))


def test_what_does_not_depend_on_the_first_argument_is_computed_once():
    x, w = torch.randn(3), torch.randn(3)
    once, then = split(record(lambda x, w: ((w * 2).exp() * x, x + 1), x, w))
    kept = once(w)
    assert len(kept) == 1
    torch.testing.assert_close(then(x, *kept), ((w * 2).exp() * x, x + 1))
