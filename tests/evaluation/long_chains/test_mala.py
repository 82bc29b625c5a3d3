"""The acceptance of a Langevin step on a quadratic energy, where it can be worked out."""

import math

import numpy as np
import pytest
import torch

from distmgcd.core.langevin import Langevin, langevin_step
from distmgcd.evaluation.long_chains import probe


def energy(x: torch.Tensor) -> torch.Tensor:
    return 0.5 * x.square().flatten(1).sum(1)


def chain(step_size: float, temperature: float = 1.0) -> Langevin:
    return Langevin(num_steps=1, step_size=step_size, temperature=temperature, clamp="none")


def at_equilibrium(num: int, size: int, settings: Langevin) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, z = torch.randn(2, num, 1, size, size, generator=generator, dtype=torch.float64)
    return x * settings.temperature**0.5, z


def log_ratio_by_hand(x: np.ndarray, z: np.ndarray, s: float, t: float) -> np.ndarray:
    """For U = x^2 / 2 and x' = (1 - s^2/2) x + s sqrt(T) z the ratio comes to (s^2 / 8) (x^2 - x'^2) / T."""
    there = (1 - s * s / 2) * x + s * math.sqrt(t) * z
    return s * s / 8 * (x * x - there * there) / t


@pytest.mark.parametrize(("step_size", "temperature"), [(0.5, 1.0), (1.2, 1.0), (1.7, 0.01)])
def test_every_acceptance_is_the_closed_form(step_size: float, temperature: float):
    settings = chain(step_size, temperature)
    x, z = at_equilibrium(500, 1, settings)
    found = probe(energy, x, z, settings).acceptance.numpy()
    by_hand = log_ratio_by_hand(x.flatten().numpy(), z.flatten().numpy(), step_size, temperature)
    np.testing.assert_allclose(found, np.exp(np.minimum(0, by_hand)), rtol=1e-9)
    assert found.min() < 1


@pytest.mark.parametrize("step_size", [0.7, 1.4])
def test_the_mean_at_equilibrium_is_that_of_quadrature(step_size: float):
    """E min(1, ratio) over x, z ~ N(0, 1), on a fine lattice."""
    settings = chain(step_size)
    grid = np.linspace(-7, 7, 1001)
    x, z = np.meshgrid(grid, grid)
    weight = np.exp(-0.5 * (x * x + z * z))
    exact = (np.exp(np.minimum(0, log_ratio_by_hand(x, z, step_size, 1.0))) * weight).sum() / weight.sum()
    acceptance = probe(energy, *at_equilibrium(20_000, 1, settings), settings).acceptance
    assert float(acceptance.mean()) == pytest.approx(exact, abs=4 * float(acceptance.std()) / 20_000**0.5)


def test_many_dimensions_meet_the_known_limit():
    """Step s^2 = l^2 / D^(1/3) on a normal: acceptance tends to 2 Phi(-l^3 / 8) (Roberts, Rosenthal 1998)."""
    scale, size = 1.65, 24  # 576 dimensions
    settings = chain(scale / size ** (1 / 3))
    acceptance = probe(energy, *at_equilibrium(1000, size, settings), settings).acceptance
    limit = math.erfc(scale**3 / 8 / math.sqrt(2))
    assert float(acceptance.mean()) == pytest.approx(limit, abs=0.03) and 0.5 < limit < 0.65


def test_it_tends_to_1_as_the_step_goes_to_0():
    rejected = []
    for step_size in (0.8, 0.4, 0.2, 0.1):
        settings = chain(step_size)
        rejected.append(1 - float(probe(energy, *at_equilibrium(2000, 4, settings), settings).acceptance.mean()))
    assert all(b < a / 6 for a, b in zip(rejected, rejected[1:], strict=False))  # as s^3: an eighth each time
    assert rejected[-1] < 1e-3


def test_its_proposal_is_the_chains_own_next_step_and_nothing_of_fp32_is_left():
    settings, seen = chain(1.1, 0.3), []

    def recorded(x: torch.Tensor) -> torch.Tensor:
        seen.append(x.detach().clone())
        return energy(x)

    x, z = (v.float() for v in at_equilibrium(5, 2, settings))
    found = probe(recorded, x, z, settings)
    following, info = langevin_step(energy, x, z, settings)
    torch.testing.assert_close(seen[1].float(), following)
    torch.testing.assert_close(found.energy.float(), info.energy)
    torch.testing.assert_close(found.drift_rms.float(), info.drift.square().flatten(1).mean(1).sqrt())
    assert {value.dtype for value in (*seen, *found)} == {torch.float64}


def test_a_step_that_is_far_too_long_is_rejected_and_a_chain_without_noise_has_no_rate():
    settings = chain(3.0)
    assert float(probe(energy, *at_equilibrium(200, 8, settings), settings).acceptance.mean()) < 1e-6
    cold = chain(0.5, 0.0)
    assert probe(energy, *at_equilibrium(3, 2, settings), cold).acceptance.isnan().all()
