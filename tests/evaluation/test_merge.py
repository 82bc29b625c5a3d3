"""Statistics that two workers gather are those of one."""

from dataclasses import replace

import pytest
import torch
import torch.multiprocessing as mp
from evaluated_ranks import BATCH, NUM, Collected, alone, run_rank

from distmgcd.evaluation.distances.feature_statistics import frechet_distance


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    folder = tmp_path_factory.mktemp("two")
    mp.spawn(run_rank, args=(2, str(folder)), nprocs=2)
    return [torch.load(folder / f"found{rank}", weights_only=False) for rank in range(2)]


def assert_same(found: Collected, expected: Collected) -> None:
    """Of single images bit for bit, for a batch is one worker's alone; sums up to their order."""
    assert torch.equal(found.features, expected.features) and torch.equal(found.pixels, expected.pixels)
    assert all(torch.equal(found.projections[size], expected.projections[size]) for size in (2, 8))
    assert found.moments.count == expected.moments.count == len(expected.features)
    for own, other in zip(
        (*found.classes, found.moments.total, found.moments.outer),
        (*expected.classes, expected.moments.total, expected.moments.outer),
        strict=True,
    ):
        torch.testing.assert_close(own, other, rtol=1e-12, atol=1e-12)


def test_two_workers_gather_what_one_does(two: list[dict]):
    assert_same(two[0]["all"], alone())
    assert two[0]["all"].features.shape == (NUM, 64)


def test_a_worker_without_a_share_adds_nothing(two: list[dict]):
    assert_same(two[0]["of_one_batch"], alone(num=BATCH))
    assert two[0]["few"].tolist() == [0, 1, 2] and two[1]["few"] is None


def test_sums_are_everywhere_rows_only_in_the_first(two: list[dict]):
    assert [found["sum"].item() for found in two] == [4.0, 4.0]
    assert [found["first"].item() for found in two] == [7, 7]
    other = two[1]["all"]
    assert other.features is None and other.pixels is None and set(other.projections.values()) == {None}
    torch.testing.assert_close(other.moments.outer, two[0]["all"].moments.outer, rtol=0, atol=0)


def test_the_distance_of_merged_moments_is_that_of_one_worker(two: list[dict]):
    whole = alone().moments
    shifted = replace(whole, total=whole.total + 0.1 * whole.count)
    merged = two[0]["all"].moments
    assert frechet_distance(merged, shifted) == pytest.approx(frechet_distance(whole, shifted), rel=1e-9)
