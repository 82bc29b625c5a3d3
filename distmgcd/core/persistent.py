"""Persistent chains: one for every training image, going on at each visit where it ended at the last.

    x_s <- K Langevin steps of U_s, from where the chain of this image at this grid ended          (Tieleman 2008)

Together they are a bank of pictures that learning has walked all along; they are no fresh samples.

A chain belongs to its image, not to a worker: worker r of W keeps those of the r-th part of the data set, hands them
to whoever has the image in this update, and gets them back. So a run may go on with any number of workers.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from distmgcd.core.noise import Purpose, random_words, uniform
from distmgcd.core.synthesis import PreviousEnds

# From the values [n_r, ...] of every rank and the numbers n_r: those of all ranks, one after the other.
Gather = Callable[[Tensor, Sequence[int]], Tensor]


class Renewal(NamedTuple):
    """Which persistent chains begin anew, as chains of images that have none yet: a function of (seed, image, update).

    A chain that an untrained model began may stay far from the data for good, so a bank needs chains begun later, as
    the buffer of Du and Mordatch 2019 ("Implicit generation and modeling with energy based models", section 3.2) does.
    """

    seed: int = 0
    fraction: float = 0.0  # of the chains at every update
    fresh_updates: int = 0  # all of them in so many updates at first

    def anew(self, images: Tensor, update: int) -> Tensor:
        """bool [B] for images int64 [B]."""
        if update < self.fresh_updates:
            return torch.ones_like(images, dtype=torch.bool)
        if self.fraction == 0.0:
            return torch.zeros_like(images, dtype=torch.bool)
        step = torch.zeros(1, dtype=torch.int64, device=images.device)
        words = random_words(images, step, 1, seed=self.seed, purpose=Purpose.RENEWAL, update=update)
        return uniform(words[0, :, 0]) < self.fraction


def bank(state: dict[str, Tensor], *, channels: int, size: int) -> Tensor:
    """The finest grid of Chains.state(): where the walked chains ended, [M, C, size, size], on the CPU."""
    shape = (channels, size, size)
    walked = state["walked"].bool().cpu()
    return state["ends"].cpu()[walked, -math.prod(shape) :].unflatten(1, shape)


class Chains:
    """The chains that this worker keeps: those of images first .. last - 1, on its device."""

    def __init__(
        self,
        num_images: int,
        channels: int,
        sizes: Sequence[int],
        *,
        rank: int,
        world_size: int,
        gather: Gather,
        renewal: Renewal | None = None,
        device: torch.device | str = "cpu",
    ):
        self._bounds = [num_images * r // world_size for r in range(world_size + 1)]
        self._shapes = [(channels, size, size) for size in sizes]
        self._rank, self._gather, self._renewal = rank, gather, renewal or Renewal()
        num_kept = self._bounds[rank + 1] - self._bounds[rank]
        num_pixels = sum(channels * size * size for size in sizes)
        self._ends = torch.zeros(num_kept, num_pixels, device=device)  # all grids of an image in one row
        self._has_chain = torch.zeros(num_kept, dtype=torch.bool, device=device)

    def recall(self, batch: Tensor, share: slice, update: int) -> PreviousEnds:
        """Where the chains of this worker's share of a batch ended, but of those that begin anew; all workers call it.

        batch: int64 [B], the images of the global batch, on the CPU and the same in every worker. update: from 0.
        """
        kept_by = [self._positions(batch, rank) for rank in range(self._world_size)]
        mine = self._places(batch, kept_by[self._rank])
        rows = torch.cat([self._ends[mine], self._has_chain[mine, None].to(self._ends.dtype)], dim=1)
        gathered = self._gather(rows, [len(positions) for positions in kept_by])
        back = torch.cat(kept_by).argsort()[share].to(gathered.device)  # from the order of keepers to that of the batch
        rows = gathered[back]
        anew = self._renewal.anew(batch[share], update).to(rows.device)
        return PreviousEnds(self._grids_of(rows[:, :-1]), (rows[:, -1] > 0) & ~anew)

    def keep(self, batch: Tensor, shares: Sequence[slice], synthesised: Sequence[Tensor]) -> None:
        """Take back the chains of the images that this worker keeps; all workers call it, with G of [b, C, s, s] each.

        shares: every rank's part of the batch.
        """
        rows = torch.cat([images.detach().flatten(1) for images in synthesised], dim=1)
        gathered = self._gather(rows, [share.stop - share.start for share in shares])
        positions = self._positions(batch, self._rank)
        mine = self._places(batch, positions)
        self._ends[mine] = gathered[positions.to(gathered.device)]
        self._has_chain[mine] = True

    def state(self) -> dict[str, Tensor]:
        """The chains of all images [N, ...], whoever keeps them, for a checkpoint; all workers call it."""
        counts = [last - first for first, last in zip(self._bounds, self._bounds[1:], strict=False)]
        walked = self._gather(self._has_chain.to(torch.uint8), counts)
        return {"ends": self._gather(self._ends, counts), "walked": walked}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take this worker's part of what state() gave, of any number of workers."""
        mine = slice(self._bounds[self._rank], self._bounds[self._rank + 1])
        self._ends.copy_(state["ends"][mine])
        self._has_chain.copy_(state["walked"][mine])

    @property
    def _world_size(self) -> int:
        return len(self._bounds) - 1

    def _positions(self, batch: Tensor, rank: int) -> Tensor:
        """Where in the batch the images stand whose chains `rank` keeps: int64, ascending."""
        return ((batch >= self._bounds[rank]) & (batch < self._bounds[rank + 1])).nonzero().squeeze(1)

    def _places(self, batch: Tensor, positions: Tensor) -> Tensor:
        """The rows in which this worker keeps the chains of the images at these positions."""
        return (batch[positions] - self._bounds[self._rank]).to(self._ends.device)

    def _grids_of(self, rows: Tensor) -> list[Tensor]:
        widths = [channels * height * width for channels, height, width in self._shapes]
        return [part.unflatten(1, shape) for part, shape in zip(rows.split(widths, 1), self._shapes, strict=True)]
