"""Persistent chains belong to images: they come back to theirs, whoever keeps them and whoever ran them."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from small_models import METHOD, random_pixels, small_learner
from torch import Tensor

from distmgcd.core.learning import learn, sample_pairs
from distmgcd.core.persistent import Chains, Renewal, bank
from distmgcd.core.synthesis import ChainNoise, synthesise

SIZES = (2, 4)
NUM_IMAGES = 10
BATCH = torch.tensor([7, 2, 9, 0, 4, 5])


def of_workers(num_workers: int, work: Callable[[int, Callable], object]) -> list:
    """What each of several threads makes of (rank, gather), as workers of one process group would."""
    slots: list = [None] * num_workers
    barrier = Barrier(num_workers, timeout=30)

    def gather(rank: int) -> Callable:
        def exchange(values: Tensor, counts) -> Tensor:
            assert len(values) == counts[rank]
            slots[rank] = values
            barrier.wait()
            everything = torch.cat(slots)
            barrier.wait()
            return everything

        return exchange

    with ThreadPoolExecutor(num_workers) as pool:
        return list(pool.map(lambda rank: work(rank, gather(rank)), range(num_workers)))


def make(rank: int, num_workers: int, gather: Callable) -> Chains:
    return Chains(NUM_IMAGES, 1, SIZES, rank=rank, world_size=num_workers, gather=gather)


def shares_of(num_workers: int) -> list[slice]:
    return [slice(r * 6 // num_workers, (r + 1) * 6 // num_workers) for r in range(num_workers)]


def ends_of(images: Tensor, offset: float = 0.0) -> list[Tensor]:
    """At every grid a picture that says whose it is."""
    return [(images + offset).float()[:, None, None, None].expand(-1, 1, size, size) for size in SIZES]


@pytest.mark.parametrize("num_workers", [1, 2, 3, 4])
def test_every_image_gets_its_own_chain_back(num_workers: int):
    other = torch.tensor([0, 1, 2, 3, 4, 5])

    def work(rank: int, gather: Callable) -> None:
        chains, shares = make(rank, num_workers, gather), shares_of(num_workers)
        assert not chains.recall(BATCH, shares[rank], 0).has_chain.any()
        chains.keep(BATCH, shares, ends_of(BATCH[shares[rank]], 0.5))
        found = chains.recall(other, shares[rank], 0)
        mine = other[shares[rank]]
        assert found.has_chain.tolist() == [int(image) in BATCH.tolist() for image in mine]
        for images, expected in zip(found.images, ends_of(mine, 0.5), strict=True):
            assert torch.equal(images[found.has_chain], expected[found.has_chain])

    of_workers(num_workers, work)


def test_what_four_workers_kept_three_go_on_with():
    def train(rank: int, gather: Callable) -> dict[str, Tensor]:
        chains = make(rank, 4, gather)
        chains.keep(BATCH, shares_of(4), ends_of(BATCH[shares_of(4)[rank]], 0.25))
        return chains.state()

    states = of_workers(4, train)
    assert all(torch.equal(states[0]["ends"], state["ends"]) for state in states)
    assert states[0]["walked"].nonzero().flatten().tolist() == sorted(BATCH.tolist())

    def go_on(rank: int, gather: Callable) -> None:
        chains = make(rank, 3, gather)
        chains.load(states[0])
        share = shares_of(3)[rank]
        found = chains.recall(BATCH, share, 0)
        assert found.has_chain.all()
        assert torch.equal(found.images[1], ends_of(BATCH[share], 0.25)[1])

    of_workers(3, go_on)


def test_the_bank_is_the_finest_grid_of_the_chains_that_were_run():
    chains = Chains(NUM_IMAGES, 1, SIZES, rank=0, world_size=1, gather=lambda values, counts: values)
    coarse, fine = ends_of(BATCH)[0], ends_of(BATCH, 0.5)[1] + torch.arange(16).view(1, 1, 4, 4)
    chains.keep(BATCH, [slice(0, 6)], [coarse, fine])
    assert torch.equal(bank(chains.state(), channels=1, size=4), fine[BATCH.argsort()])


def test_chains_begin_anew_at_first_and_a_fraction_of_them_later():
    images, renewal = torch.arange(4000), Renewal(seed=3, fraction=0.25, fresh_updates=2)
    first, second = (renewal.anew(images, update) for update in (2, 3))
    assert renewal.anew(images, 0).all() and renewal.anew(images, 1).all()
    assert abs(first.float().mean() - 0.25) < 0.03  # four standard deviations
    assert abs((first & second).float().mean() - 0.0625) < 0.016  # other ones at every update
    assert torch.equal(renewal.anew(images[100:200], 2), first[100:200])  # whoever asks
    assert not Renewal().anew(images, 0).any()


@pytest.mark.parametrize("num_workers", [1, 2, 3])
def test_what_begins_anew_is_forgotten_on_any_number_of_workers(num_workers: int):
    renewal = Renewal(fraction=0.5)

    def work(rank: int, gather: Callable) -> Tensor:
        chains = Chains(NUM_IMAGES, 1, SIZES, rank=rank, world_size=num_workers, gather=gather, renewal=renewal)
        share = shares_of(num_workers)[rank]
        chains.keep(BATCH, shares_of(num_workers), ends_of(BATCH[share]))
        return chains.recall(BATCH, share, 5).has_chain

    has_chain = torch.cat(of_workers(num_workers, work))
    assert torch.equal(has_chain, ~renewal.anew(BATCH, 5))
    assert 0 < has_chain.sum() < 6


def test_a_chain_goes_on_where_it_ended_and_one_not_run_yet_starts_from_the_coarser_grid():
    learner = small_learner()
    pixels, indices = random_pixels(4)
    chains = Chains(1000, 1, METHOD.sizes, rank=0, world_size=1, gather=lambda values, counts: values)
    whole = slice(0, 4)
    first = learn(learner, pixels, indices, 0, METHOD, previous=chains.recall(indices, whole, 0)).synthesised
    chains.keep(indices[:2], [slice(0, 2)], [images[:2] for images in first])

    previous = chains.recall(indices, whole, 0)
    found = sample_pairs(learner.model, pixels, indices, 1, METHOD, previous).synthesised
    fresh = sample_pairs(learner.model, pixels, indices, 1, METHOD).synthesised
    torch.testing.assert_close(found[0][2:], fresh[0][2:])
    assert (found[0][:2] - fresh[0][:2]).abs().max() > 1e-3

    noise = ChainNoise(indices[:2], METHOD.seed, 1)
    by_hand = synthesise(
        learner.model,
        torch.full((2, 1, 1, 1), float("nan")),  # of which nothing may be left
        noise,
        sizes=METHOD.sizes,
        langevin=METHOD.langevin,
        start=chains.recall(indices[:2], slice(0, 2), 0).start,
    ).images
    for images, expected in zip(found, by_hand, strict=True):
        torch.testing.assert_close(images[:2], expected)
