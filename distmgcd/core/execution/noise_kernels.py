"""The noise of noise.py on a GPU, each draw as one kernel: as tensor operations it takes a hundred launches.

Words are the same bit for bit; normals are the same up to the last bits of a logarithm, a root and a cosine.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCKS_A_PROGRAM = 256
_TURN = tl.constexpr(2.0 * math.pi / 4096)  # of the angle, by one of the 12 bits that give it


@triton.jit
def _blocks(images, steps, seed, stream, update, num_images, num_blocks, num_rows, N: tl.constexpr):
    """The blocks of one program: their rows (of steps and images), their numbers, and the four words of each."""
    i = tl.program_id(0).to(tl.int64) * N + tl.arange(0, N)
    row, block = i // num_blocks, i % num_blocks
    image = tl.load(images + row % num_images, mask=row < num_rows, other=0)
    when = stream + tl.load(steps + row // num_images, mask=row < num_rows, other=0)
    update = tl.zeros((N,), tl.int64) + update
    a, b, c, d = tl.philox(
        seed,
        block.to(tl.uint32),
        when.to(tl.uint32),
        update.to(tl.uint32),
        image.to(tl.uint32),
        n_rounds=10,  # pyright: ignore[reportArgumentType]
    )
    return row, block, a, b, c, d


@triton.jit(do_not_specialize=["seed", "stream", "update", "num_images", "num_blocks", "num_rows"])
def _draw_words(out, images, steps, seed, stream, update, num_images, num_blocks, num_rows, N: tl.constexpr):
    row, block, a, b, c, d = _blocks(images, steps, seed, stream, update, num_images, num_blocks, num_rows, N)
    place, inside = out + row * 4 * num_blocks + block, row < num_rows
    tl.store(place, a.to(tl.int64), mask=inside)
    tl.store(place + num_blocks, b.to(tl.int64), mask=inside)
    tl.store(place + 2 * num_blocks, c.to(tl.int64), mask=inside)
    tl.store(place + 3 * num_blocks, d.to(tl.int64), mask=inside)


@triton.jit
def _store_pair(row_of_values, first, second, num_values, word, inside):
    """Both normals of a word (Box and Muller 1958), as noise.normal has them."""
    radius = tl.sqrt(-2.0 * tl.log(((word >> 12).to(tl.float32) + 0.5) * 9.5367431640625e-07))  # 2^-20
    angle = ((word & 0xFFF).to(tl.float32) + 0.5) * _TURN
    tl.store(row_of_values + first, tl.cos(angle) * radius, mask=inside & (first < num_values))
    tl.store(row_of_values + second, tl.sin(angle) * radius, mask=inside & (second < num_values))


@triton.jit(do_not_specialize=["seed", "stream", "update", "num_images", "num_blocks", "num_rows", "num_values"])
def _draw_normals(
    out, images, steps, seed, stream, update, num_images, num_blocks, num_rows, num_values, N: tl.constexpr
):
    row, block, a, b, c, d = _blocks(images, steps, seed, stream, update, num_images, num_blocks, num_rows, N)
    values, inside = out + row * num_values, row < num_rows
    _store_pair(values, block, block + 4 * num_blocks, num_values, a, inside)
    _store_pair(values, block + num_blocks, block + 5 * num_blocks, num_values, b, inside)
    _store_pair(values, block + 2 * num_blocks, block + 6 * num_blocks, num_values, c, inside)
    _store_pair(values, block + 3 * num_blocks, block + 7 * num_blocks, num_values, d, inside)


def words(images: Tensor, steps: Tensor, num_words: int, *, seed: int, stream: int, update: int) -> Tensor:
    """uint32 words as int64 [num_steps, num_images, at least num_words], as noise.random_words."""
    num_blocks = -(-num_words // 4)
    out = images.new_empty(len(steps), len(images), 4 * num_blocks)
    _launch(_draw_words, out, images, steps, num_blocks, seed, stream, update)
    return out


def normals(images: Tensor, steps: Tensor, num_values: int, *, seed: int, stream: int, update: int) -> Tensor:
    """Standard normal float32 [num_steps, num_images, num_values], as noise.normals."""
    num_blocks = -(-num_values // 8)
    out = torch.empty(len(steps), len(images), num_values, device=images.device)
    _launch(_draw_normals, out, images, steps, num_blocks, seed, stream, update, num_values)
    return out


def _launch(
    kernel: triton.JITFunction,
    out: Tensor,
    images: Tensor,
    steps: Tensor,
    num_blocks: int,
    seed: int,
    stream: int,
    update: int,
    *last: int,
) -> None:
    num_rows = len(steps) * len(images)
    if num_rows:
        signed = seed - (1 << 64) if seed >> 63 else seed  # the 64 bits as Triton takes them
        programs = (triton.cdiv(num_rows * num_blocks, _BLOCKS_A_PROGRAM),)
        with torch.cuda.device_of(out):  # Triton launches on the present device, whatever its tensors are on
            kernel[programs](
                out,
                images.contiguous(),
                steps.contiguous(),
                signed,
                stream,
                update,
                len(images),
                num_blocks,
                num_rows,
                *last,
                N=_BLOCKS_A_PROGRAM,
            )
