"""The chains that the real loop walks, looked at from outside."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from distmgcd.core import learning

# {number of the update, from 1: one (images [b], ends at every grid G of [b, C, s, s]) each time it was walked}
Ends = dict[int, list[tuple[Tensor, list[Tensor]]]]


@contextmanager
def captured_ends() -> Iterator[Ends]:
    ends: Ends = {}
    sample_grids = learning.sample_grids

    def watched(model: Any, start_images: Tensor, noise: Any, **how: Any) -> Iterator[Any]:
        images: list[Tensor] = []
        ends.setdefault(noise.update + 1, []).append((noise.images.clone(), images))
        for x, info in sample_grids(model, start_images, noise, **how):
            images.append(torch.clone(x))
            yield x, info

    learning.sample_grids = watched
    try:
        yield ends
    finally:
        learning.sample_grids = sample_grids
