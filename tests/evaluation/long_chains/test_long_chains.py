"""Chains that go on: the numbers of steps, the noise, and where they are looked at."""

from copy import deepcopy
from itertools import islice

import pytest
import torch

from distmgcd.core.energy import ConvEnergy, MultiGridEnergy
from distmgcd.core.langevin import Langevin, run_chain
from distmgcd.core.networks import ConvLayer, convnet
from distmgcd.core.noise import Purpose
from distmgcd.core.synthesis import ChainNoise
from distmgcd.evaluation.long_chains import continue_chains, probe

SIZES = (2, 4)
MULTIPLES = (1, 2, 5)


def chains_of(clamp: str) -> list[Langevin]:
    return [Langevin(3, 0.3, 0.01, clamp), Langevin(4, 0.2, 0.02, clamp)]


@pytest.fixture(params=["none", "spectral"])
def model(request: pytest.FixtureRequest) -> MultiGridEnergy:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return MultiGridEnergy(
            [
                ConvEnergy(
                    convnet(s, 1, [ConvLayer(3, 1, 4)], activation="silu", norm=request.param), reference_sigma=0.5
                )
                for s in SIZES
            ]
        ).eval()


def samples() -> list[torch.Tensor]:
    return [torch.rand(2, 1, s, s, generator=torch.Generator().manual_seed(s)) - 0.5 for s in SIZES]


NOISE = ChainNoise(torch.tensor([7, 11]), seed=3, purpose=Purpose.SAMPLE_CHAIN)


@pytest.mark.parametrize("clamp", ["none", "end", "step"])
def test_a_chain_goes_on_with_the_noise_of_its_later_steps(model: MultiGridEnergy, clamp: str):
    settings = chains_of(clamp)
    marks = list(continue_chains(model, samples(), NOISE, langevin=settings, multiples=MULTIPLES))
    assert [(mark.grid, mark.multiple) for mark in marks] == [(g, m) for g in (0, 1) for m in MULTIPLES]
    for mark in marks:
        chain, x = settings[mark.grid], samples()[mark.grid]
        noise = list(NOISE(mark.grid, tuple(x.shape[1:]), chain.num_steps * mark.multiple + 1))
        walked = list(islice(noise, chain.num_steps, chain.num_steps * mark.multiple))
        expected, _ = run_chain(model.grids[mark.grid], x, walked, chain)
        torch.testing.assert_close(mark.pictures, expected, rtol=1e-5, atol=1e-6)
        assert mark.energy.dtype == mark.acceptance.dtype == torch.float64
        if clamp != "end":  # else the chain itself goes on unclamped
            here = probe(deepcopy(model.grids[mark.grid]).double(), expected, noise[-1], chain)
            torch.testing.assert_close(mark.energy, here.energy, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(mark.acceptance, here.acceptance, rtol=1e-3, atol=1e-3)
            torch.testing.assert_close(mark.drift_rms, here.drift_rms, rtol=1e-4, atol=1e-6)


def test_after_k_steps_it_is_the_sample_itself(model: MultiGridEnergy):
    marks = list(continue_chains(model, samples(), NOISE, langevin=chains_of("end"), multiples=(1,)))
    assert all(torch.equal(mark.pictures, x) for mark, x in zip(marks, samples(), strict=True))


def test_saturation_is_the_share_of_values_at_the_bounds_and_the_model_is_left_as_it_was(model: MultiGridEnergy):
    full = [x.new_ones(x.shape) for x in samples()]
    full[0][:, 0, 0, 0] = 0.5
    marks = list(continue_chains(model, full, NOISE, langevin=chains_of("step"), multiples=(1,)))
    assert [mark.saturation.tolist() for mark in marks] == [[0.75] * 2, [1.0] * 2]
    assert all(p.requires_grad and p.dtype == torch.float32 for p in model.parameters())
