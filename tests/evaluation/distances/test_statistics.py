"""Statistics that two workers gather are those of one, bit for bit."""

import pytest
import torch
import torch.multiprocessing as mp
from evaluated_ranks import BATCH, NUM, ImageStatistics, alone, run_rank


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    folder = tmp_path_factory.mktemp("two")
    mp.spawn(run_rank, args=(2, str(folder)), nprocs=2)
    return [torch.load(folder / f"found{rank}", weights_only=False) for rank in range(2)]


def assert_same(found: ImageStatistics, expected: ImageStatistics) -> None:
    assert found.num == expected.num == len(expected.features) and found.num_not_finite == 0
    assert torch.equal(found.features, expected.features) and torch.equal(found.pixels, expected.pixels)
    assert all(torch.equal(found.projections[size], expected.projections[size]) for size in (2, 8))
    assert all(torch.equal(own, other) for own, other in zip(found.classes, expected.classes, strict=True))
    assert torch.equal(found.moments.outer, expected.moments.outer)


def test_two_workers_gather_what_one_does_and_both_have_it(two: list[dict]):
    assert alone().features.shape == (NUM, 64) and alone().classes.num.sum() == NUM
    for of_worker in two:
        assert_same(of_worker["all"], alone())


def test_a_worker_without_a_share_adds_nothing(two: list[dict]):
    for of_worker in two:
        assert_same(of_worker["of_one_batch"], alone(num=BATCH))
        assert of_worker["few"].tolist() == [0, 1, 2]
