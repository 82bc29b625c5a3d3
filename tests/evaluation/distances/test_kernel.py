"""The kernel distance: its definition, and that it is unbiased."""

import pytest
import torch

from distmgcd.evaluation.distances.feature_statistics import kernel_distance, squared_mmd


def features(num: int, seed: int, *, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(num, 4, generator=torch.Generator().manual_seed(seed)) + shift


def test_it_is_its_definition():
    x, y = features(3, 0).double(), features(4, 1).double()
    k = lambda a, b: float((a @ b / 4 + 1) ** 3)  # noqa: E731
    within_x = sum(k(x[i], x[j]) for i in range(3) for j in range(3) if i != j) / 6
    within_y = sum(k(y[i], y[j]) for i in range(4) for j in range(4) if i != j) / 12
    between = sum(k(a, b) for a in x for b in y) / 12
    assert squared_mmd(x, y) == pytest.approx(within_x + within_y - 2 * between)


@pytest.mark.parametrize("num", [5, 20])
def test_equal_distributions_are_at_0_on_average_however_few_images(num: int):
    """The biased estimate would be about 2 E[k(x, x) - k(x, x')] / num: here over 0.5 at 20 images."""
    values = torch.tensor([squared_mmd(features(num, 2 * i), features(num, 2 * i + 1)) for i in range(2000)])
    assert abs(values.mean()) < 4 * values.std() / 2000**0.5


def test_a_shift_is_seen_and_the_closed_form_met():
    """Of x ~ N(0, I), y ~ N(m, I) in D dimensions, with t = (x . y) / D + 1: E[(u + 1)^3] = 1 + 3 E[u^2] + ... ."""
    x, y = features(4000, 0), features(4000, 1, shift=1.0)
    d, m2 = 4, 4.0  # dimensions, |m|^2

    def mean_kernel(mean_product: float, variance: float, third: float) -> float:
        u, u2, u3 = mean_product / d, (variance + mean_product**2) / d**2, third / d**3
        return 1 + 3 * u + 3 * u2 + u3

    # a . b of independent N(p, I), N(q, I): mean p.q, variance D + |p|^2 + |q|^2,
    # third moment (p.q)^3 + 3 (p.q)(D + |p|^2 + |q|^2) + 6 p.q.
    def third(pq: float, p2: float, q2: float) -> float:
        return pq**3 + 3 * pq * (d + p2 + q2) + 6 * pq

    expected = (
        mean_kernel(0, d, third(0, 0, 0))
        + mean_kernel(m2, d + 2 * m2, third(m2, m2, m2))
        - 2 * mean_kernel(0, d + m2, third(0, 0, m2))
    )
    assert squared_mmd(x, y) == pytest.approx(expected, rel=0.08)


def test_the_mean_over_subsets_has_a_deviation_and_repeats():
    x, y = features(300, 0), features(200, 1, shift=0.3)
    found = kernel_distance(x, y, seed=3)
    assert found == kernel_distance(x, y, seed=3) and found.subset_size == 100
    assert found.mean == pytest.approx(squared_mmd(x, y), abs=2 * found.deviation)
    assert found.mean / 20 < found.deviation < found.mean


def test_too_few_images_are_refused():
    with pytest.raises(ValueError, match="at least 4 images"):
        kernel_distance(features(3, 0), features(9, 1))
