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
    synthesise = learning.synthesise

    def watched(model: Any, seeds: Tensor, noise: Any, **how: Any) -> Any:
        found = synthesise(model, seeds, noise, **how)
        ends.setdefault(noise.update + 1, []).append((noise.images.clone(), [torch.clone(x) for x in found.images]))
        return found

    learning.synthesise = watched
    try:
        yield ends
    finally:
        learning.synthesise = synthesise
