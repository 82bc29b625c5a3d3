"""Which images an update sees: a function of (seed, update), never of the cluster.

    updates_per_epoch = num_images // global_batch_size        (the incomplete last batch is dropped)
    epoch, position   = divmod(update, updates_per_epoch)
    permutation       = argsort of num_images words of Philox4x64-10 with key (seed, epoch)
    batch             = permutation[position * global_batch_size :][: global_batch_size]

Raw generator words and a stable sort give the same order in every version of numpy, which
Generator.permutation does not promise. Philox: Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3.
"""

from functools import lru_cache

import numpy as np

from distmgcd.errors import UserError

_NUM_SEEDS = 2**64


def batch_indices(update: int, *, num_images: int, global_batch_size: int, seed: int) -> np.ndarray:
    """The images of the global batch of `update` (from 0): int64 [global_batch_size], read-only.

    Each epoch shows every image at most once. Raises UserError if the batch is larger than the data set.
    """
    if update < 0:
        raise ValueError(f"update counts from 0, got {update}")
    _check_batch_size(global_batch_size, num_images=num_images)
    epoch, position = divmod(update, num_images // global_batch_size)
    start = position * global_batch_size
    return _permutation(num_images, seed=seed % _NUM_SEEDS, epoch=epoch)[start : start + global_batch_size]


def shard(num_images: int, rank: int, world_size: int, *, block: int = 1) -> slice:
    """Where the share of `rank` of `world_size` workers lies in a batch of num_images, whole blocks of it.

    Shares are contiguous, and equal but for one block where the workers do not divide the blocks.
    """
    if not 0 <= rank < world_size:
        raise ValueError(f"rank must be from 0 to {world_size - 1}, got {rank}")
    num_blocks = num_images // block
    return slice(rank * num_blocks // world_size * block, (rank + 1) * num_blocks // world_size * block)


def check_shares(global_batch_size: int, least: int, most: int, *, block: int = 1) -> None:
    """Raise UserError where a fixed number of workers (least = most) would not have equal shares of a batch.

    All would wait for the slowest. A number that changes cannot always divide it, so there each need only have a share.
    """
    num_blocks, num_workers = global_batch_size // block, most
    of_what = f"{global_batch_size}" if block == 1 else f"{num_blocks} blocks of learning.block_size={block}"
    if least < most and most > num_blocks:
        raise UserError(
            f"The most workers must not exceed learning.global_batch_size, but {most} are more than {of_what}; lower "
            f"it to {num_blocks}."
        )
    if least == most and num_blocks % num_workers:
        raise UserError(
            f"The number of workers must divide learning.global_batch_size, but {num_workers} does not divide "
            f"{of_what}; numbers that do are {_divisors_as_text(num_blocks)}."
        )


# Two, so that training at the end of one epoch and prefetching the next do not take turns.
@lru_cache(maxsize=2)
def _permutation(num_images: int, *, seed: int, epoch: int) -> np.ndarray:
    key = np.array([seed, epoch], dtype=np.uint64)
    permutation = np.argsort(np.random.Philox(key=key).random_raw(num_images), kind="stable")
    permutation = permutation.astype(np.int64, copy=False)
    permutation.setflags(write=False)  # it is shared by every later call
    return permutation


def _check_batch_size(global_batch_size: int, *, num_images: int) -> None:
    if global_batch_size < 1:
        raise UserError(f"learning.global_batch_size must be at least 1, but is {global_batch_size}; set 128, say.")
    if global_batch_size > num_images:
        raise UserError(
            f"learning.global_batch_size must not exceed the number of images, but {global_batch_size} is more "
            f"than {num_images}; set learning.global_batch_size={num_images} or less, or use more images."
        )


def _divisors_as_text(number: int) -> str:
    return ", ".join(str(divisor) for divisor in range(1, number + 1) if number % divisor == 0)
