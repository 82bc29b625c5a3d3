"""One step and a chain of them, against what is known exactly for a Gaussian energy."""

import math

import pytest
import torch

from distmgcd.core.langevin import Langevin, cooled, iter_steps, langevin_step, run_chain
from distmgcd.core.noise import Purpose, normals

SIGMA = 0.6


def gaussian(x: torch.Tensor) -> torch.Tensor:
    """U = |x|^2 / (2 sigma^2)."""
    return x.square().flatten(1).sum(1) / (2 * SIGMA**2)


def flat(x: torch.Tensor) -> torch.Tensor:
    return 0 * x.flatten(1).sum(1)


def noise(num_images: int, num_steps: int) -> list[torch.Tensor]:
    return list(normals(torch.arange(num_images), (1, 2, 2), num_steps, seed=1, purpose=Purpose.CHAIN))


@pytest.mark.parametrize(("step_size", "temperature"), [(0.5, 1.0), (0.9, 0.01), (0.2, 1.0)])
def test_mean_and_variance_are_exact_at_every_step_on_a_gaussian_energy(step_size, temperature):
    x = torch.full((10_000, 1, 2, 2), 1.5)
    shrink, mean, variance = 1 - step_size**2 / (2 * SIGMA**2), 1.5, 0.0
    langevin = Langevin(25, step_size, temperature, "none")
    for state, _ in iter_steps(gaussian, x, noise(len(x), 25), langevin):
        mean, variance = shrink * mean, shrink**2 * variance + step_size**2 * temperature
        assert abs(state.mean().item() - mean) < 4 * math.sqrt(variance / state.numel())
        assert abs(state.var().item() - variance) < 4 * variance * math.sqrt(2 / state.numel())


@pytest.mark.parametrize(("step_size", "temperature"), [(0.5, 1.0), (0.9, 0.01)])
def test_a_long_chain_settles_at_the_known_variance(step_size, temperature):
    end, _ = run_chain(
        gaussian, torch.zeros(10_000, 1, 2, 2), noise(10_000, 40), Langevin(40, step_size, temperature, "none")
    )
    expected = temperature * SIGMA**2 / (1 - step_size**2 / (4 * SIGMA**2))
    assert end.var().item() == pytest.approx(expected, rel=4 * math.sqrt(2 / end.numel()))


def test_zero_temperature_is_gradient_descent():
    x, (z,) = torch.randn(3, 1, 2, 2), noise(3, 1)
    after, _ = langevin_step(gaussian, x, z, Langevin(1, 0.4, 0.0, "none"))
    torch.testing.assert_close(after, x - 0.4**2 / 2 * x / SIGMA**2)


def test_drift_scale_and_noise_deviation_are_those_of_the_recipe():
    recipe = Langevin(20, math.sqrt(2), 5e-5, "end")
    assert recipe.drift_scale == pytest.approx(1.0)
    assert recipe.noise_std == pytest.approx(0.01)


def test_a_step_tells_the_energy_where_it_started_and_its_drift():
    x, (z,) = torch.randn(3, 1, 2, 2), noise(3, 1)
    before = x.clone()
    after, info = langevin_step(gaussian, x, z, Langevin(1, 0.4, 0.09, "none"))
    torch.testing.assert_close(info.energy, gaussian(before))
    torch.testing.assert_close(info.drift, 0.4**2 / 2 * before / SIGMA**2)
    torch.testing.assert_close(after, before - info.drift + 0.4 * 0.3 * z)
    assert torch.equal(x, before) and not x.requires_grad
    assert not any(tensor.requires_grad for tensor in (after, *info))


def test_a_chain_equals_its_steps_one_by_one():
    langevin, zs = Langevin(6, 0.4, 0.5, "none"), noise(5, 6)
    x = start = torch.randn(5, 1, 2, 2)
    steps = list(iter_steps(gaussian, start, zs, langevin))
    for z, (state, step_info) in zip(zs, steps, strict=True):
        x, info = langevin_step(gaussian, x, z, langevin)
        assert torch.equal(state, x) and torch.equal(step_info.drift, info.drift)
    end, last = run_chain(gaussian, start, iter(zs), langevin)
    assert torch.equal(end, x) and torch.equal(last.energy, info.energy)


def test_clamp_none_lets_pixels_leave_the_box_and_end_and_step_keep_them_in():
    x, zs = torch.zeros(50, 1, 2, 2), noise(50, 5)
    paths = {
        clamp: [s for s, _ in iter_steps(flat, x, zs, Langevin(5, 1.0, 1.0, clamp))]
        for clamp in ("none", "end", "step")
    }
    ends = {clamp: run_chain(flat, x, zs, Langevin(5, 1.0, 1.0, clamp))[0] for clamp in ("none", "end", "step")}
    assert ends["none"].abs().max() > 1
    assert torch.equal(paths["end"][-1], ends["none"])  # not clamped on the way
    assert torch.equal(ends["end"], ends["none"].clamp(-1, 1))
    assert all(state.abs().max() <= 1 for state in paths["step"])
    assert torch.equal(paths["step"][1], (paths["step"][0] + zs[1]).clamp(-1, 1))
    assert torch.equal(ends["step"], paths["step"][-1])


def test_a_chain_of_no_steps_stays_where_it_is():
    x = torch.randn(2, 1, 2, 2)
    end, info = run_chain(gaussian, x, [], Langevin(0, 0.4, 0.5, "none"))
    assert torch.equal(end, x) and info is None


def test_falling_noise_has_its_known_variance_at_every_step():
    """Without drift the variance is the sum of those of the steps: s^2 T times the squared factor of each."""
    langevin = Langevin(5, 0.5, 0.8, "none", cooling=(1.0, 0.2))
    factors, variance, n = (1.0, 0.8, 0.6, 0.4, 0.2), 0.0, 40_000
    assert [langevin.noise_factor(step) for step in range(6)] == pytest.approx([*factors, 0.2])
    steps = iter_steps(flat, torch.zeros(n // 4, 1, 2, 2), cooled(noise(n // 4, 5), langevin), langevin)
    for factor, (x, _) in zip(factors, steps, strict=True):
        variance += 0.25 * 0.8 * factor**2
        assert x.var().item() == pytest.approx(variance, rel=5 * math.sqrt(2 / n))


def test_constant_noise_is_left_as_it_is():
    drawn = noise(2, 3)
    assert cooled(drawn, Langevin(3, 1.0, 1.0, "none")) is drawn
