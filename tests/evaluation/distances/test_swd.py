"""Sliced Wasserstein distances against closed forms, brute force, and the order that noise and blur must have."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance

from distmgcd.core.grids import expand, pool
from distmgcd.evaluation.distances import swd
from distmgcd.evaluation.distances.swd import sliced_wasserstein

SIZES = (2, 4, 16)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def smooth_images(num_images: int, *, channels: int = 1, seed: int = 0) -> torch.Tensor:
    """[N, C, 16, 16] with structure at every grid."""
    coarse, middle, fine = (normal(num_images, channels, s, s, seed=10 * seed + s) for s in SIZES)
    return 0.4 * expand(coarse, 16) + 0.2 * expand(middle, 16) + 0.1 * fine


def pixel_distances(x: torch.Tensor, y: torch.Tensor, **how: int) -> list[float]:
    """At every grid."""
    return [sliced_wasserstein(pool(x, size), pool(y, size), **how) for size in SIZES]


def test_two_points_are_as_far_apart_as_their_shadow_along_a_direction():
    x, y = torch.zeros(1, 1, 1, 2), torch.tensor([[[[3.0, 4.0]]]])
    expected = 5 * 2 / math.pi  # the mean of |cos| over the circle
    assert sliced_wasserstein(x, y, num_directions=20_000) == pytest.approx(expected, rel=4 * 0.48 / math.sqrt(20_000))


def test_one_dimension_has_one_direction_and_the_plain_distance():
    x, y = torch.tensor([0.0, 1.0, 5.0]).view(3, 1, 1, 1), torch.tensor([1.0, 2.0, 9.0]).view(3, 1, 1, 1)
    assert sliced_wasserstein(x, y, num_directions=3) == pytest.approx((1 + 1 + 4) / 3)


def test_a_shifted_gaussian_is_as_far_as_the_mean_shadow_of_the_shift():
    """W1 of N(a, 1) and N(b, 1) is |a - b|, so SW of N(0, I) and N(mu, I) is E|<mu, t>|."""
    num_values, mu = 16, 4.0
    shift = torch.full((1, 1, 4, 4), mu / 4)  # of length mu
    mean_shadow = mu * math.gamma(num_values / 2) / (math.sqrt(math.pi) * math.gamma((num_values + 1) / 2))
    x, y = normal(4000, 1, 4, 4), normal(4000, 1, 4, 4, seed=1) + shift
    assert sliced_wasserstein(x, y, num_directions=4000) == pytest.approx(mean_shadow, rel=0.04)


@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 7), (5, 5), (6, 4), (13, 29), (100, 64)])
def test_it_agrees_with_brute_force_along_every_direction(n, m):
    x, y = normal(n, 3, 2, 2), normal(m, 3, 2, 2, seed=1) * 0.5 + 0.3
    directions = swd.directions(12, 20, 0).numpy()
    brute = [wasserstein_distance(x.flatten(1).numpy() @ d, y.flatten(1).numpy() @ d) for d in directions]
    assert sliced_wasserstein(x, y, num_directions=20) == pytest.approx(np.mean(brute), rel=1e-5)
    assert sliced_wasserstein(y, x, num_directions=20) == pytest.approx(np.mean(brute), rel=1e-5)


def test_directions_are_unit_vectors_all_round():
    directions = swd.directions(5, 4000, 3)
    torch.testing.assert_close(directions.norm(dim=1), torch.ones(4000))
    torch.testing.assert_close(directions.T @ directions / 4000, torch.eye(5) / 5, rtol=0, atol=0.02)


def test_the_order_of_the_images_changes_nothing():
    x, y = smooth_images(50), smooth_images(40, seed=1)
    assert sliced_wasserstein(x.flip(0), x) == 0
    assert sliced_wasserstein(x.flip(0), y.flip(0)) == sliced_wasserstein(x, y)


def test_repeating_every_image_changes_nothing():
    x, y = smooth_images(30), smooth_images(20, seed=1)
    assert sliced_wasserstein(torch.cat([x, x, x]), y) == pytest.approx(sliced_wasserstein(x, y), rel=1e-6)


def test_the_same_seed_gives_the_same_number_and_chunks_do_not_change_it(monkeypatch):
    x, y = smooth_images(30), smooth_images(20, seed=1)
    once = sliced_wasserstein(x, y, seed=4)
    assert sliced_wasserstein(x, y, seed=4) == once != sliced_wasserstein(x, y, seed=5)
    monkeypatch.setattr(swd, "_PROJECTIONS_AT_ONCE", 150)
    assert sliced_wasserstein(x, y, seed=4) == pytest.approx(once, rel=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_there_is_one_number_a_grid_and_0_for_a_set_against_itself(channels):
    x = smooth_images(20, channels=channels)
    assert pixel_distances(x, x) == [0, 0, 0]
    assert len(pixel_distances(x, smooth_images(30, channels=channels, seed=1))) == 3


def test_two_sets_of_one_distribution_are_near_the_sampling_error_and_no_other_is():
    x, y = smooth_images(300), smooth_images(300, seed=1)
    error = pixel_distances(x, y, num_directions=128)
    fewer = pixel_distances(x[:75], y[:75], num_directions=128)
    assert all(1.4 < few / many < 2.9 for few, many in zip(fewer, error, strict=True))  # about 1 / sqrt(n): 2
    other = pixel_distances(0.5 * x + 0.2, y, num_directions=128)
    assert all(wrong > 2 * near for wrong, near in zip(other, error, strict=True))


def test_more_noise_is_further_at_the_finest_grid():
    x, noise = smooth_images(200), normal(200, 1, 16, 16, seed=2)
    scores = [pixel_distances(x + a * noise, x, num_directions=128)[-1] for a in (0, 0.2, 0.4, 0.8)]
    assert scores[0] == 0 and all(b > 1.5 * a for a, b in pairwise(scores))


def test_more_blur_is_further_at_the_finest_grid_and_the_same_below_the_blur():
    x = smooth_images(200)
    blurred = [x, *(expand(pool(x, size), 16) for size in (8, 4))]
    scores = [pixel_distances(images, x, num_directions=128) for images in blurred]
    assert scores[0][-1] == 0 and scores[2][-1] > 1.05 * scores[1][-1] > 0
    assert all(max(score[:2]) < 1e-6 for score in scores)


def test_a_pixel_that_is_not_a_number_shows():
    x = smooth_images(10)
    x[3, 0, 5, 5] = math.nan
    assert math.isnan(pixel_distances(x, smooth_images(10, seed=1))[0])


@pytest.mark.parametrize(
    ("samples", "data"), [((2, 1, 4, 4), (2, 3, 4, 4)), ((2, 1, 4, 4), (2, 1, 8, 8)), ((0, 1, 4, 4), (2, 1, 4, 4))]
)
def test_sets_that_cannot_be_compared_are_told_apart(samples, data):
    with pytest.raises(ValueError, match="one shape"):
        sliced_wasserstein(torch.zeros(samples), torch.zeros(data))


@pytest.mark.parametrize(("n", "m"), [(30, 30), (17, 40)])
def test_projections_made_in_batches_give_the_same_distance(n: int, m: int):
    x, y = smooth_images(n, channels=3), smooth_images(m, channels=3, seed=1)
    projected = [torch.cat([swd.project(part) for part in images.split(7)]) for images in (x, y)]
    assert swd.distance_of_projections(*projected) == pytest.approx(sliced_wasserstein(x, y), rel=1e-5)
