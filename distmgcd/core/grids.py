"""The pyramid of an image, and the way back up.

A grid of size s sees the image as the averages of its (S / s) x (S / s) boxes. Going up, a pixel becomes
a constant box, so pooling undoes expanding exactly.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor


def pool(images: Tensor, size: int) -> Tensor:
    """Box averages: [B, C, S, S] to [B, C, size, size]. size divides S."""
    if images.shape[-1] == size:
        return images
    return F.avg_pool2d(images, images.shape[-1] // size)


def expand(images: Tensor, size: int) -> Tensor:
    """Constant boxes: [B, C, s, s] to [B, C, size, size]. s divides size."""
    factor = size // images.shape[-1]
    return images.repeat_interleave(factor, dim=-2).repeat_interleave(factor, dim=-1)


def pyramid(images: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """The images [B, C, S, S] at every size, coarse to fine; the last size is S and each divides the next.

    Each level is pooled from the next finer one, which equals pooling from the full image.
    """
    levels = [images]
    for size in reversed(sizes[:-1]):
        levels.append(pool(levels[-1], size))
    return levels[::-1]
