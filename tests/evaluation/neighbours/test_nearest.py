"""Nearest references from a stream, the memorisation ratio, and diversity."""

import pytest
import torch

from distmgcd.evaluation.distances.pairwise import Nearest, mean_pairwise_distance, memorisation


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def levels(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def nearest_of(queries: torch.Tensor, references: torch.Tensor, k: int, parts: int = 1) -> Nearest:
    nearest = Nearest(queries, k)
    for numbers in torch.arange(len(references)).tensor_split(parts):
        nearest.add(references[numbers], numbers)
    return nearest


@pytest.mark.parametrize("parts", [1, 3, 40])
def test_it_finds_what_brute_force_finds_in_whatever_parts(parts: int):
    queries, references = random(700, 6), random(40, 6, seed=1)
    found = nearest_of(queries, references, 4, parts)
    expected = torch.cdist(queries.double(), references.double()).sort(dim=1)
    torch.testing.assert_close(found.distances, expected.values[:, :4])
    assert torch.equal(found.numbers, expected.indices[:, :4])


def test_halves_merge_to_the_whole():
    queries, references = random(20, 6), random(40, 6, seed=1)
    whole, half = nearest_of(queries, references, 3), nearest_of(queries, references[:15], 3)
    other = Nearest(queries, 3)
    other.add(references[15:], torch.arange(15, 40))
    half.merge(other.distances, other.numbers)
    assert torch.equal(half.numbers, whole.numbers)
    torch.testing.assert_close(half.distances, whole.distances)


def test_a_copy_is_at_distance_0_and_pixels_are_exact():
    references = levels(30, 48)
    found = nearest_of(references[[17, 4]], references, 2)
    assert found.numbers[:, 0].tolist() == [17, 4] and found.distances[:, 0].tolist() == [0, 0]
    exact = (references[found.numbers[0, 1]].long() - references[17].long()).square().sum()
    assert found.distances[0, 1] == exact.double().sqrt()


def test_fewer_references_than_neighbours_leave_places_open():
    found = nearest_of(random(2, 3), random(1, 3, seed=1), 3)
    assert found.numbers.tolist() == [[0, -1, -1]] * 2 and found.distances[:, 1:].isinf().all()


def test_copies_of_training_images_show_and_fresh_ones_do_not():
    train, held_out, fresh = random(2000, 4), random(500, 4, seed=1), random(500, 4, seed=2)
    half_copied = torch.cat([train[:250] + 1e-4, fresh[:250]])
    to_held_out = nearest_of(held_out, train, 1).distances[:, 0]
    honest = memorisation(nearest_of(fresh, train, 1).distances[:, 0], to_held_out)
    copied = memorisation(nearest_of(half_copied, train, 1).distances[:, 0], to_held_out)
    assert honest.ratio == pytest.approx(1, abs=0.12) and honest.share_very_near < 0.03
    assert copied.ratio < 0.6 and copied.share_very_near == pytest.approx(0.5, abs=0.02)


def test_diversity_is_the_mean_over_pairs(monkeypatch):

    x = random(30, 5)
    expected = float(torch.pdist(x.double()).mean())
    assert mean_pairwise_distance(x) == pytest.approx(expected)
    monkeypatch.setattr("distmgcd.evaluation.distances.pairwise._QUERIES_AT_ONCE", 4)
    assert mean_pairwise_distance(x) == pytest.approx(expected)


def test_diversity_of_a_normal_is_known_and_of_one_picture_is_0():
    """|x - x'| of 2 dimensions is sqrt(2) times a Rayleigh variable, whose mean is sqrt(pi / 2)."""
    assert mean_pairwise_distance(random(3000, 2)) == pytest.approx(torch.pi**0.5, rel=0.02)
    assert mean_pairwise_distance(levels(1, 12).expand(9, -1)) == 0
    with pytest.raises(ValueError, match="at least 2"):
        mean_pairwise_distance(random(1, 2))
