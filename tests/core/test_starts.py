"""Where chains start: chains of no steps are their starts."""

import math

import pytest
import torch
from small_models import LANGEVIN, method, random_pixels, small_model
from torch import Tensor

from distmgcd.core.grids import expand, pyramid
from distmgcd.core.learning import add_noise, observe, sample_pairs
from distmgcd.core.noise import Purpose
from distmgcd.core.synthesis import NoiseStart, PreviousEnds, StartDistribution, StartKind, draw_samples

NO_STEPS = (LANGEVIN._replace(num_steps=0),) * 2
SIZES = (4, 8)


def starts_of(kind: StartKind, *, previous: PreviousEnds | None = None, langevin=NO_STEPS) -> list[Tensor]:
    """What an update of no Langevin steps synthesises of ten images, at grids 4 and 8."""
    how = method(start=kind, langevin=langevin, flip=True)
    return sample_pairs(small_model(), *random_pixels(10), 3, how, previous).synthesised


def observed() -> list[Tensor]:
    """The images of that update at 1, 4 and 8, without the noise that learning adds."""
    return pyramid(observe(*random_pixels(10), 3, method(flip=True)), (1, *SIZES))


@pytest.mark.parametrize("kind", ["multigrid", "single", "persistent"])
def test_without_steps_samples_have_the_mean_colour(kind: StartKind):
    start_images = observed()[0]
    for found, size in zip(starts_of(kind), SIZES, strict=True):
        assert torch.equal(found, expand(start_images, size))


def test_contrastive_divergence_starts_at_the_images_before_their_noise():
    for grid, (found, images) in enumerate(zip(starts_of("data"), observed()[1:], strict=True)):
        assert torch.equal(found, images)
        noisy = add_noise(images, random_pixels(10)[1], 3, grid, method())
        assert (found - noisy).abs().max() > 0.01


def test_persistent_chains_start_where_they_ended_once_they_were_run():
    ends = PreviousEnds([torch.rand(10, 1, size, size) for size in SIZES], torch.arange(10) % 2 == 0)
    for grid, (found, size) in enumerate(zip(starts_of("persistent", previous=ends), SIZES, strict=True)):
        assert torch.equal(found[::2], ends.images[grid][::2])
        if grid == 0:
            assert torch.equal(found[1::2], expand(observed()[0], size)[1::2])


def test_short_run_chains_start_at_uniform_noise():
    indices = torch.arange(2000)
    x = NoiseStart(indices, seed=3, update=5)(1, torch.zeros(2000, 1, 8, 8))
    assert x.shape == (2000, 1, 8, 8) and -1 < x.min() < -0.999 and 0.999 < x.max() < 1
    standard_error = 1 / math.sqrt(x.numel())
    assert abs(x.mean()) < 4 * standard_error / math.sqrt(3)
    assert x.var().item() == pytest.approx(1 / 3, abs=4 * standard_error * math.sqrt(4 / 45))
    pixels = torch.corrcoef(x.flatten(1).T) - torch.eye(64)
    images = torch.corrcoef(x.flatten(1)[:200]) - torch.eye(200)
    assert pixels.abs().max() < 5 / math.sqrt(2000) and images.square().mean().item() == pytest.approx(1 / 63, rel=0.1)
    found = starts_of("noise")
    assert torch.equal(found[1], NoiseStart(random_pixels(10)[1], seed=3, update=3)(1, found[1]))


def test_noise_is_a_function_of_seed_image_update_grid_and_purpose():
    def noise(images=(4, 90, 2), grid: int = 0, **when) -> Tensor:
        of = NoiseStart(torch.tensor(images), **{"seed": 8, "update": 6, **when})
        return of(grid, torch.zeros(len(images), 1, 4, 4))

    assert torch.equal(noise((7, 2)), torch.stack([noise((7,))[0], noise()[2]]))  # whatever else is in the batch
    others = (noise(seed=9), noise(update=7), noise(grid=1), noise(purpose=Purpose.SAMPLE_NOISE_START))
    assert not any(torch.isclose(other, noise()).any() for other in others)


def test_the_grids_of_a_model_are_learned_each_for_itself_unless_chains_start_from_coarser_grids():
    """What a coarser grid synthesises decides the finer ones of multigrid and of no other start."""
    still = (LANGEVIN, LANGEVIN._replace(num_steps=0))
    changed = [
        not torch.equal(starts_of(kind)[1], starts_of(kind, langevin=still)[1])
        for kind in ("multigrid", "data", "noise")
    ]
    assert changed == [True, False, False]


def test_samples_start_at_drawn_colours_or_at_noise_that_knows_no_colour():
    dark, light = (StartDistribution(torch.tensor([[level]], dtype=torch.uint8), torch.ones(1)) for level in (9, 250))
    how = {"seed": 1, "sizes": SIZES, "langevin": NO_STEPS}
    numbers = torch.tensor([5, 7])
    samples = [draw_samples(small_model(), starts, numbers, **how) for starts in (dark, light)]
    assert torch.equal(samples[0][1], expand(dark.draw(numbers, seed=1), 8))
    assert samples[0][1].max() < 0 < samples[1][1].min()
    noise = [draw_samples(small_model(), starts, numbers, start="noise", **how) for starts in (dark, light)]
    for grid, (one, other) in enumerate(zip(*noise, strict=True)):
        assert torch.equal(one, other)
        assert torch.equal(one, NoiseStart(numbers, 1, purpose=Purpose.SAMPLE_NOISE_START)(grid, one))
