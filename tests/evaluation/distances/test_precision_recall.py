"""Precision and recall of sets whose manifolds are known."""

import pytest
import torch

from distmgcd.evaluation.distances.pairwise import precision_recall, radii_of


def grid(first: int, last: int) -> torch.Tensor:
    """Points 1 apart on a line: each reaches to a third neighbour 2 away (3 at the ends)."""
    return torch.arange(first, last).double()[:, None]


def test_radii_reach_to_the_kth_other_point():
    assert radii_of(grid(0, 6), 3).tolist() == [3, 2, 2, 2, 2, 3]
    assert radii_of(grid(0, 6), 1).tolist() == [1] * 6


def test_a_set_has_precision_and_recall_1_against_itself():
    x = torch.randn(50, 7, generator=torch.Generator().manual_seed(0))
    assert precision_recall(x, x.flip(0)) == (1, 1)


def test_sets_far_apart_have_none():
    assert precision_recall(grid(0, 10), grid(100, 110)) == (0, 0)


def test_samples_of_half_of_the_data_are_precise_but_recall_half():
    """Of 100 points samples cover 50: of the others only those within the reach of the last ones are recalled."""
    data, samples = grid(0, 100), grid(0, 50)
    found = precision_recall(samples, data)
    assert found.precision == 1 and found.recall == (50 + 3) / 100


def test_samples_of_data_and_as_much_else_recall_all_but_are_half_precise():
    found = precision_recall(torch.cat([grid(0, 50), grid(1000, 1050)]), grid(0, 50))
    assert found == (0.5, 1)


def test_many_rows_are_gone_over_in_parts_alike(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(90, 3, generator=generator), torch.randn(70, 3, generator=generator) + 0.5
    whole = precision_recall(x, y)
    monkeypatch.setattr("distmgcd.evaluation.distances.pairwise._ROWS_AT_ONCE", 7)
    assert precision_recall(x, y) == whole and 0 < whole.precision < 1


def test_too_few_images_are_refused():
    with pytest.raises(ValueError, match="3 neighbours need more images"):
        precision_recall(grid(0, 3), grid(0, 9))
