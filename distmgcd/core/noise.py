"""The noise of a chain: a function of who draws it and when, never of where it runs.

Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3") maps a
128-bit counter and a 64-bit key to 128 random bits. Here

    key     = the run's seed
    counter = (block of values, purpose | grid | step, update, image)

so one worker or eight, a resumed run, and a laptop replaying one chain all draw the same numbers.
Written as plain integer tensor operations, which run on any device; on a GPU, noise_kernels.py draws the same.
"""

import math
from collections.abc import Iterator
from enum import IntEnum
from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from distmgcd.core.execution.warn_once import first_line, warn_once

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_INCREMENTS = (0x9E3779B9, 0xBB67AE85)
_NUM_ROUNDS = 10
_WORD = 0xFFFFFFFF

MAX_GRIDS = 1 << 8
MAX_STEPS = 1 << 20

# Noise is made for several steps at once: enough of them to hide the cost of a hundred small operations,
# few enough that the buffers stay in a CPU's cache (measured: flat from 16k to 64k blocks).
_BLOCKS_AT_ONCE = 1 << 15
_VALUES_AT_ONCE_ON_GPU = 1 << 26  # a quarter of a GB


class Purpose(IntEnum):
    """Separate streams for separate uses, so that no two uses ever share a number."""

    CHAIN = 0  # Langevin noise while training
    DEQUANTISE = 1  # uint8 to a real number
    OBSERVED = 2  # Gaussian noise on the observed images
    FLIP = 3  # whether an observed image is mirrored
    SAMPLE_CHAIN = 4  # Langevin noise of samples drawn after training
    SAMPLE_START = 5  # 1x1 starts of those samples
    NOISE_START = 6  # noise that short-run chains start from while training
    SAMPLE_NOISE_START = 7  # the same of samples drawn after training
    MASK = 8  # which pixels are hidden while training
    INPAINT_MASK = 9  # which are hidden of images that are filled after training
    INPAINT_CHAIN = 10  # Langevin noise of what fills them
    INPAINT_NOISE_START = 11  # noise that it starts from
    RENEWAL = 12  # which persistent chains begin anew


def philox(
    x0: Tensor, x1: Tensor, x2: Tensor, x3: Tensor, key: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Philox4x32-10 of four counter words, int64 tensors of one shape that hold uint32 values.

    Returns four such tensors. The arguments are used up as working memory.
    """
    k0, k1 = key
    a, b = torch.empty_like(x0), torch.empty_like(x0)
    for _ in range(_NUM_ROUNDS):
        # The 64 bits of a product of two uint32 are right even where int64 wraps. The low half is left
        # unmasked until the end: only its lower 32 bits survive the mask of the word it is mixed into.
        torch.mul(x0, _MULTIPLIERS[0], out=a)
        torch.mul(x2, _MULTIPLIERS[1], out=b)
        torch.bitwise_right_shift(b, 32, out=x0).bitwise_xor_(x1).bitwise_xor_(k0).bitwise_and_(_WORD)
        torch.bitwise_right_shift(a, 32, out=x2).bitwise_xor_(x3).bitwise_xor_(k1).bitwise_and_(_WORD)
        x1, b, x3, a = b, x1, a, x3
        k0, k1 = (k0 + _KEY_INCREMENTS[0]) & _WORD, (k1 + _KEY_INCREMENTS[1]) & _WORD
    return x0, x1.bitwise_and_(_WORD), x2, x3.bitwise_and_(_WORD)


def random_words(
    images: Tensor, steps: Tensor, num_words: int, *, seed: int, purpose: Purpose, update: int = 0, grid: int = 0
) -> Tensor:
    """Uniform uint32 words as int64 [num_steps, num_images, at least num_words].

    images: int64 [num_images], the index of each image in the data set (or of each sample).
    steps:  int64 [num_steps], the step numbers along the chain.
    """
    stream = int(purpose) << 28 | grid << 20
    if kernels := _kernels_for(images):
        return kernels.words(images, steps, num_words, seed=seed, stream=stream, update=update)
    blocks = torch.arange(-(-num_words // 4), device=images.device)
    shape = (len(steps), len(images), len(blocks))
    when = steps + stream
    counter = (blocks, when[:, None, None], torch.full((), update, device=images.device), images[:, None])
    words = philox(
        *(word.expand(shape).clone(memory_format=torch.contiguous_format) for word in counter),
        key=(seed & _WORD, seed >> 32 & _WORD),
    )
    return torch.cat(words, dim=-1)


def uniform(words: Tensor) -> Tensor:
    """uint32 words to float32 in (0, 1): midpoints of 2^23 equal cells, so neither 0 nor 1 occurs."""
    return ((words >> 9).float() + 0.5) * 2.0**-23


def normal(words: Tensor) -> Tensor:
    """Standard normal float32 [..., 2 n] from uint32 words [..., n] (Box and Muller 1958).

    20 bits of a word give the radius, 12 the angle. Equally spaced angles leave every moment below the
    4096th exact; the radius ends at sqrt(2 ln 2^21) = 5.4, past which lies 7e-8 of a normal's mass.
    """
    radius = (words >> 12).float().add_(0.5).mul_(2.0**-20).log_().mul_(-2.0).sqrt_()
    angle = (words & 0xFFF).float().add_(0.5).mul_(2.0 * math.pi / 4096)
    return torch.cat([torch.cos(angle).mul_(radius), angle.sin_().mul_(radius)], dim=-1)


def normals(
    images: Tensor,
    shape: tuple[int, ...],
    num_steps: int,
    *,
    seed: int,
    purpose: Purpose,
    update: int = 0,
    grid: int = 0,
) -> Iterator[Tensor]:
    """Yield standard normal noise [num_images, *shape] for steps 0, 1, ... of the images' chains."""
    num_values = math.prod(shape)
    num_words = -(-num_values // 2)
    kernels = _kernels_for(images)
    most = _VALUES_AT_ONCE_ON_GPU if kernels else _BLOCKS_AT_ONCE * 8
    at_once = max(1, most // max(1, 2 * num_words * len(images)))
    for first in range(0, num_steps, at_once):
        steps = torch.arange(first, min(first + at_once, num_steps), device=images.device)
        if kernels:
            stream = int(purpose) << 28 | grid << 20
            values = kernels.normals(images, steps, num_values, seed=seed, stream=stream, update=update)
        else:
            words = random_words(images, steps, num_words, seed=seed, purpose=purpose, update=update, grid=grid)
            values = normal(words)[..., :num_values]
        yield from values.unflatten(-1, shape)


def _kernels_for(images: Tensor) -> ModuleType | None:
    """noise_kernels, where they can be had for a draw of these images."""
    return _kernels() if images.is_cuda else None


@cache
def _kernels() -> ModuleType | None:
    try:
        from distmgcd.core.execution import noise_kernels

        noise_kernels.normals(*torch.zeros(2, 1, dtype=torch.int64, device="cuda"), 1, seed=0, stream=0, update=0)
    except Exception as error:  # no Triton, no C compiler for its launcher, or whatever else it raises
        warn_once(f"Noise cannot be drawn by a kernel of its own ({first_line(error)}): chains on this GPU are slower.")
        return None
    return noise_kernels
