"""The order of images: a function of (seed, update)."""

import numpy as np
import pytest

from distmgcd.data import batch_indices, check_shares, shard
from distmgcd.errors import UserError


def epoch_of(seed: int, epoch: int, *, num_images: int = 103, size: int = 10) -> np.ndarray:
    per_epoch = num_images // size
    updates = range(epoch * per_epoch, (epoch + 1) * per_epoch)
    return np.concatenate([batch_indices(u, num_images=num_images, global_batch_size=size, seed=seed) for u in updates])


def test_an_epoch_shows_every_image_once_but_for_the_incomplete_last_batch():
    shown = epoch_of(0, 0)
    assert shown.dtype == np.int64 and len(shown) == 100
    assert len(set(shown.tolist())) == 100 and shown.min() >= 0 and shown.max() < 103


def test_the_order_does_not_depend_on_what_was_asked_before():
    forward = [batch_indices(u, num_images=50, global_batch_size=7, seed=3) for u in range(30)]
    backward = [batch_indices(u, num_images=50, global_batch_size=7, seed=3) for u in reversed(range(30))][::-1]
    np.testing.assert_array_equal(forward, backward)


def test_every_epoch_and_every_seed_has_its_own_order():
    orders = [epoch_of(seed, epoch) for seed in (0, 1, 2**63) for epoch in range(3)]
    assert len({order.tobytes() for order in orders}) == 9


def test_the_order_is_the_one_it_has_always_been():
    # Frozen: a checkpoint of an old version must go on with the images it would have seen.
    assert batch_indices(0, num_images=20, global_batch_size=6, seed=0).tolist() == [0, 2, 11, 17, 9, 1]
    assert batch_indices(3, num_images=20, global_batch_size=6, seed=7).tolist() == [12, 17, 15, 16, 11, 3]


def test_philox_gives_the_published_words():
    # Random123, kat_vectors, philox4x64-10 with key and counter zero; numpy counts up before it generates.
    generator = np.random.Philox(key=np.zeros(2, np.uint64), counter=np.full(4, 2**64 - 1, np.uint64))
    known = [0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B]
    assert [int(word) for word in generator.random_raw(4)] == known


def test_positions_are_uniform():
    # Image 0 stands at a place of mean 49.5 and variance (100^2 - 1) / 12; 400 epochs, five standard errors.
    places = [int(np.flatnonzero(epoch_of(5, e, num_images=100) == 0)[0]) for e in range(400)]
    assert abs(np.mean(places) - 49.5) < 5 * np.sqrt(9999 / 12 / 400)


def test_the_shards_of_any_number_of_workers_are_the_batch():
    batch = batch_indices(4, num_images=100, global_batch_size=12, seed=0)
    for world_size in (1, 2, 3, 4, 6, 12):
        shards = [batch[shard(12, rank, world_size)] for rank in range(world_size)]
        assert {len(part) for part in shards} == {12 // world_size}
        np.testing.assert_array_equal(np.concatenate(shards), batch)


@pytest.mark.parametrize(("block", "num_workers"), [(1, 5), (1, 7), (2, 4), (3, 3), (4, 2)])
def test_shares_of_workers_that_do_not_divide_the_batch_differ_by_one_block_at_most(block: int, num_workers: int):
    shares = [np.arange(12)[shard(12, rank, num_workers, block=block)] for rank in range(num_workers)]
    np.testing.assert_array_equal(np.concatenate(shares), np.arange(12))
    assert {len(share) % block for share in shares} == {0}
    assert max(map(len, shares)) - min(map(len, shares)) <= block


def test_a_number_of_workers_that_does_not_divide_the_batch_is_told_those_that_do():
    with pytest.raises(UserError, match=r"5 does not divide 12; numbers that do are 1, 2, 3, 4, 6, 12\."):
        check_shares(12, 5, 5)
    with pytest.raises(UserError, match=r"4 does not divide 6 blocks of .*block_size=2; .* are 1, 2, 3, 6\."):
        check_shares(12, 4, 4, block=2)
    check_shares(12, 1, 5)
    with pytest.raises(UserError, match=r"13 are more than 12; lower it to 12"):
        check_shares(12, 2, 13)


def test_a_batch_larger_than_the_data_set_is_refused():
    with pytest.raises(UserError, match=r"learning\.global_batch_size .* 11 is more than 10; set .*=10 or less"):
        batch_indices(0, num_images=10, global_batch_size=11, seed=0)
    with pytest.raises(UserError, match=r"learning\.global_batch_size must be at least 1, but is 0"):
        batch_indices(0, num_images=10, global_batch_size=0, seed=0)


def test_a_batch_cannot_be_changed_by_its_user():
    with pytest.raises(ValueError, match="read-only"):
        batch_indices(0, num_images=10, global_batch_size=5, seed=0)[0] = 1
