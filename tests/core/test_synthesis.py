"""Where chains start, and how they go from grid to grid."""

import math

import pytest
import torch
from small_models import LANGEVIN, small_model
from torch import nn

from distmgcd.core.grids import expand
from distmgcd.core.langevin import langevin_step
from distmgcd.core.noise import Purpose, normals
from distmgcd.core.synthesis import ChainNoise, StartDistribution, draw_samples, iter_grid_steps, synthesise

SIZES, CHAINS = (4, 8), (LANGEVIN, LANGEVIN)


def without_drift(channels: int = 1) -> nn.Module:
    model = small_model(channels=channels, reference_sigma=math.inf)
    for energy in model.grids:
        nn.init.zeros_(energy.network[-1].weight)
    return model


def correlated_means(num_images: int = 4000) -> torch.Tensor:
    """Mean colours whose channels go together: red up, green half as far up, blue down."""
    t = torch.rand(num_images, 1, generator=torch.Generator().manual_seed(0))
    return torch.cat([20 + 200 * t, 60 + 100 * t, 240 - 200 * t], dim=1)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_chain_without_drift_and_temperature_is_the_expanded_seed(channels):
    start_images = torch.rand(5, channels, 1, 1) * 2 - 1
    cold = [LANGEVIN._replace(temperature=0.0)] * 2
    images, _ = synthesise(
        without_drift(channels), start_images, ChainNoise(torch.arange(5), 0), sizes=SIZES, langevin=cold
    )
    assert torch.equal(images[0], expand(start_images, 4)) and torch.equal(images[1], expand(start_images, 8))


def test_chains_without_drift_are_a_random_walk_of_separate_noise():
    images, _ = synthesise(
        without_drift(), torch.zeros(400, 1, 1, 1), ChainNoise(torch.arange(400), 0), sizes=SIZES, langevin=CHAINS
    )
    values = images[0].flatten(1)  # [400, 16]
    variance = LANGEVIN.num_steps * LANGEVIN.noise_std**2
    assert values.var().item() == pytest.approx(variance, rel=5 * math.sqrt(2 / values.numel()))
    correlations = torch.corrcoef(values) - torch.eye(400)
    assert correlations.square().mean().item() == pytest.approx(1 / 15, rel=0.05)  # as of independent rows of 16
    assert values.std(dim=0).min() > 0.8 * math.sqrt(variance)  # noise shared by the batch would make this 0


def test_synthesis_expands_and_runs_a_chain_at_every_grid():
    model, images, start_images = small_model(), torch.tensor([4, 90, 2]), torch.rand(3, 1, 1, 1)
    synthesis = synthesise(model, start_images, ChainNoise(images, 8, update=6), sizes=SIZES, langevin=CHAINS)
    x = start_images
    for grid, size in enumerate(SIZES):
        x = expand(x, size)
        for z in normals(
            images, (1, size, size), LANGEVIN.num_steps, seed=8, purpose=Purpose.CHAIN, update=6, grid=grid
        ):
            x, info = langevin_step(model.grids[grid], x, z, LANGEVIN)
        torch.testing.assert_close(synthesis.images[grid], x)
        torch.testing.assert_close(synthesis.last_steps[grid].energy, info.energy)


def test_the_clamped_image_is_what_the_next_grid_starts_from():
    clamped = [LANGEVIN._replace(temperature=4.0, clamp="end"), LANGEVIN._replace(temperature=0.0)]
    images, _ = synthesise(
        without_drift(), torch.zeros(5, 1, 1, 1), ChainNoise(torch.arange(5), 0), sizes=SIZES, langevin=clamped
    )
    assert images[0].abs().max() == 1
    assert torch.equal(images[1], expand(images[0], 8))


def test_synthesis_leaves_no_gradient_and_no_frozen_weight_behind():
    model = small_model()
    synthesis = synthesise(model, torch.zeros(2, 1, 1, 1), ChainNoise(torch.arange(2), 0), sizes=SIZES, langevin=CHAINS)
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert not any(x.requires_grad for x in synthesis.images)


@pytest.mark.parametrize("norm", ["none", "layer", "spectral"])
def test_sample_number_7_is_the_same_picture_whatever_else_is_drawn_with_it(norm):
    model, starts = small_model(channels=3, norm=norm), StartDistribution.of(correlated_means())
    alone = draw_samples(model, starts, torch.tensor([7]), seed=5, sizes=SIZES, langevin=CHAINS)
    among = draw_samples(
        model, starts, torch.tensor([30, 2, 7, *range(100, 140)]), seed=5, sizes=SIZES, langevin=CHAINS
    )
    for one, many in zip(alone, among, strict=True):
        torch.testing.assert_close(many[2], one[0], rtol=0, atol=1e-5)  # a convolution may sum in another order
        assert (many[2] - many[3]).abs().max() > 0.01


def test_samples_do_not_draw_the_noise_of_training():
    model, images = without_drift(), torch.arange(3)
    starts = StartDistribution(torch.tensor([[128]], dtype=torch.uint8), torch.tensor([1]))
    sampled = draw_samples(model, starts, images, seed=1, sizes=SIZES, langevin=CHAINS)[0]
    start_images = starts.draw(images, seed=1)
    trained = synthesise(model, start_images, ChainNoise(images, 1), sizes=SIZES, langevin=CHAINS).images[0]
    assert abs(torch.corrcoef(torch.stack([(x - start_images).flatten() for x in (sampled, trained)]))[0, 1]) < 0.6


def test_the_start_distribution_counts_the_rounded_mean_colours():
    starts = StartDistribution.of(torch.tensor([[0.2, 254.7], [9.6, 0.0], [0.0, 255.0], [10.4, 0.4]]))
    assert starts.levels.dtype == torch.uint8
    assert starts.levels.tolist() == [[0, 255], [10, 0]] and starts.counts.tolist() == [2, 2]


def test_starts_follow_the_counts():
    starts = StartDistribution(torch.tensor([[10], [100], [200]], dtype=torch.uint8), torch.tensor([6, 1, 3]))
    levels = (starts.draw(torch.arange(10_000), seed=0).flatten() + 1) * 128
    for level, share in ((10, 0.6), (100, 0.1), (200, 0.3)):
        drawn = ((levels >= level) & (levels <= level + 1)).double().mean().item()
        assert abs(drawn - share) < 4 * math.sqrt(share * (1 - share) / 10_000)


@pytest.mark.parametrize("channels", [1, 3])
def test_starts_reproduce_means_deviations_and_correlations_of_the_training_images(channels):
    means = correlated_means()[:, :channels]
    drawn = (StartDistribution.of(means).draw(torch.arange(20_000), seed=2)[:, :, 0, 0] + 1) * 128 - 0.5
    assert drawn.shape == (20_000, channels)
    error = means.std(dim=0) / math.sqrt(20_000)
    assert ((drawn.mean(0) - means.mean(0)).abs() < 4 * error).all()
    torch.testing.assert_close(drawn.std(0), means.std(0), rtol=0.02, atol=0)
    if channels == 3:
        assert torch.corrcoef(drawn.T)[0].tolist() == pytest.approx([1, 1, -1], abs=1e-3)


def test_a_start_stands_where_learning_puts_images_of_that_level():
    starts = StartDistribution(torch.tensor([[0], [255]], dtype=torch.uint8), torch.tensor([1, 1]))
    drawn = starts.draw(torch.arange(2000), seed=0).flatten()
    dark, light = drawn[drawn < 0], drawn[drawn > 0]
    assert dark.min() >= -1 and dark.max() <= -1 + 1 / 128
    assert light.min() >= 1 - 1 / 128 and light.max() <= 1
    assert dark.mean().item() == pytest.approx(0.5 / 128 - 1, abs=5 / 128 / math.sqrt(12 * 1000))


def test_a_start_depends_on_its_number_and_the_seed_only():
    starts = StartDistribution.of(correlated_means())
    many = starts.draw(torch.arange(100), seed=3)
    assert torch.equal(starts.draw(torch.tensor([50, 7]), seed=3), many[[50, 7]])
    assert not torch.isclose(starts.draw(torch.arange(100), seed=4), many).any(dim=1).all()
    assert len(many.flatten(1).unique(dim=0)) == 100


@pytest.mark.parametrize("start", ["climb", "noise"])
def test_a_worker_that_has_no_sample_to_draw_draws_none(start):
    none = torch.tensor([], dtype=torch.int64)
    starts = StartDistribution.of(correlated_means())
    drawn = draw_samples(small_model(channels=3), starts, none, seed=1, sizes=SIZES, langevin=CHAINS, start=start)
    assert [tuple(x.shape) for x in drawn] == [(0, 3, 4, 4), (0, 3, 8, 8)]


def test_iter_grid_steps_yields_every_step_from_the_expanded_start_to_the_clamped_end():
    model, images, start_images = small_model(), torch.tensor([4, 90, 2]), torch.rand(3, 1, 1, 1)
    chains = [LANGEVIN._replace(temperature=4.0, clamp="end"), LANGEVIN._replace(num_steps=2)]
    noise = ChainNoise(images, 8, update=6)
    steps = list(iter_grid_steps(model, start_images, noise, sizes=SIZES, langevin=chains))
    assert [(grid, step) for grid, step, _, _ in steps] == [(0, s) for s in range(5)] + [(1, s) for s in range(3)]
    assert torch.equal(steps[0][2], expand(start_images, 4)) and torch.equal(steps[5][2], expand(steps[4][2], 8))
    assert [info is None for *_, info in steps] == [step == 0 for _, step, _, _ in steps]
    assert steps[3][2].abs().max() > 1 >= steps[4][2].abs().max()
    found = synthesise(model, start_images, noise, sizes=SIZES, langevin=chains)
    for end, last in zip((steps[4], steps[7]), zip(*found, strict=True), strict=True):
        assert torch.equal(end[2], last[0]) and torch.equal(end[3].drift, last[1].drift)


def test_iter_grid_steps_left_in_the_middle_leaves_no_frozen_weight_behind():
    model = small_model()
    steps = iter_grid_steps(
        model, torch.zeros(2, 1, 1, 1), ChainNoise(torch.arange(2), 0), sizes=SIZES, langevin=CHAINS
    )
    next(steps)
    assert not any(p.requires_grad for p in model.parameters())
    steps.close()
    assert all(p.requires_grad for p in model.parameters())


def test_where_noise_falls_iter_grid_steps_and_synthesise_run_the_same_chains():
    model, start_images = small_model(), torch.rand(3, 1, 1, 1)
    cooling = [LANGEVIN._replace(cooling=(1.0, 0.5)), LANGEVIN._replace(cooling=(0.4, 0.0))]
    how = {"sizes": SIZES, "langevin": cooling}
    ends = synthesise(model, start_images, ChainNoise(torch.arange(3), 8), **how).images
    shown = {grid: x for grid, _, x, _ in iter_grid_steps(model, start_images, ChainNoise(torch.arange(3), 8), **how)}
    assert all(torch.equal(shown[grid], ends[grid]) for grid in shown)
    constant = synthesise(model, start_images, ChainNoise(torch.arange(3), 8), sizes=SIZES, langevin=CHAINS).images
    assert not any(torch.allclose(x, y, atol=1e-3) for x, y in zip(ends, constant, strict=True))
