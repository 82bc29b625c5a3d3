"""The Frechet distance of Gaussians that are known, and its moments put together from parts."""

import math

import pytest
import torch

from distmgcd.evaluation.distances.feature_statistics import Moments, frechet_distance


def with_moments(mean: torch.Tensor, covariance: torch.Tensor, count: int = 1000) -> Moments:
    """Of a set that has exactly this mean and this unbiased covariance."""
    outer = (count - 1) * covariance.double() + count * torch.outer(mean, mean).double()
    return Moments(count, count * mean.double(), outer)


def rotation(size: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))[0]


def covariance_of(variances: list[float], turned: torch.Tensor) -> torch.Tensor:
    return turned @ torch.diag(torch.tensor(variances, dtype=torch.float64)) @ turned.T


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([1.0, 4.0, 9.0, 16.0], [1.0, 1.0, 1.0, 1.0]),
        ([1.0, 4.0, 9.0, 0.0], [4.0, 0.0, 1.0, 0.0]),  # both singular, in different directions
        ([0.0, 0.0, 0.0, 0.0], [4.0, 0.0, 1.0, 2.0]),
        ([1e-8, 1e4, 1.0, 1e-3], [1e4, 1e-8, 1.0, 1e-3]),
    ],
)
def test_gaussians_that_share_their_axes_have_a_closed_form(a, b):
    """|m|^2 + sum (sqrt a - sqrt b)^2."""
    turned, shift = rotation(4), torch.tensor([1.0, -2.0, 0.5, 0.0], dtype=torch.float64)
    found = frechet_distance(
        with_moments(shift, covariance_of(a, turned)), with_moments(torch.zeros(4), covariance_of(b, turned))
    )
    expected = 5.25 + sum((math.sqrt(x) - math.sqrt(y)) ** 2 for x, y in zip(a, b, strict=True))
    assert found == pytest.approx(expected, rel=1e-9)


def test_gaussians_in_the_plane_that_do_not_share_their_axes():
    """Of 2x2 matrices tr sqrt(M) = sqrt(tr M + 2 sqrt(det M)), M = S_a S_b."""
    a, b = covariance_of([3.0, 1.0], rotation(2, 1)), covariance_of([0.5, 2.0], rotation(2, 2))
    product = a @ b
    cross = math.sqrt(float(product.trace() + 2 * product.det().sqrt()))
    expected = float(a.trace() + b.trace()) - 2 * cross
    found = frechet_distance(with_moments(torch.zeros(2), a), with_moments(torch.zeros(2), b))
    assert found == pytest.approx(expected, rel=1e-10)


def test_fewer_images_than_features_lose_no_digits():
    """One direction each: variances 4 and 9 along lines at an angle; tr sqrt(S_a S_b) = 2 * 3 * |cos|."""
    lines = rotation(500, 3)[:, :2]
    angle = lines[:, 0] * 0.6 + lines[:, 1] * 0.8
    a, b = 4 * torch.outer(lines[:, 0], lines[:, 0]), 9 * torch.outer(angle, angle)
    found = frechet_distance(with_moments(torch.zeros(500), a), with_moments(torch.zeros(500), b))
    assert found == pytest.approx(4 + 9 - 2 * 2 * 3 * 0.6, rel=1e-9)


def test_samples_of_known_gaussians_come_near_it():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 20_000, 3, generator=generator)
    found = frechet_distance(Moments.of(2 * x + 1), Moments.of(y))
    assert found == pytest.approx(3 * 1 + 3 * (2 - 1) ** 2, rel=0.03)


def test_a_set_is_at_distance_0_of_itself_and_the_order_does_not_matter():
    x = torch.randn(40, 100, generator=torch.Generator().manual_seed(0))
    assert frechet_distance(Moments.of(x), Moments.of(x.flip(0))) == pytest.approx(0, abs=1e-9)


def test_moments_of_parts_are_those_of_the_whole():
    x = torch.randn(100, 8, generator=torch.Generator().manual_seed(0)) + 3
    merged, whole = Moments.of(x[:30]) + Moments.of(x[30:31]) + Moments.of(x[31:]), Moments.of(x)
    assert merged.count == 100
    torch.testing.assert_close(merged.mean, x.double().mean(0), rtol=1e-12, atol=0)
    torch.testing.assert_close(merged.covariance, torch.cov(x.double().T), rtol=1e-10, atol=1e-12)
    assert frechet_distance(merged, whole) == pytest.approx(0, abs=1e-9)


def test_one_image_has_no_covariance():
    with pytest.raises(ValueError, match="at least 2 images, but there is 1"):
        frechet_distance(Moments.of(torch.ones(1, 3)), Moments.of(torch.ones(5, 3)))
