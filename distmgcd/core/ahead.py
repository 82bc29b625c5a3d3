"""The coarse chains of the next batch walk while the finest grid of this one samples and learns.

    main stream    coarse gradients | finest chains, gradient, step                 | coarse gradients of the next ...
    side stream                     | coarse steps, coarse chains of the next batch |

The grids share no parameter, and a chain starts where that of the next coarser grid ended. So the chains of all grids
but the finest need nothing of the finest, and may walk as soon as the coarse grids have made their step. Every grid
meets the same images, noise and weights in the same order as in learning.learn, so the update is the same; only a GPU,
which small grids leave half idle, does two things at once.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from distmgcd.core.learning import Learned, Learner, Method, Pairs, begin_pairs, means_of, step_all, with_norms
from distmgcd.core.parallel.overlap import End, start_averaging

Read = Callable[[int], tuple[Tensor, Tensor]]  # of an update: its pixels, uint8 [B, C, S, S], and their indices [B]


class Begun(NamedTuple):
    """An update whose coarse chains have walked."""

    update: int
    method: Method
    weights: list[int]  # versions of those that they walked with, which change when others are put in their place
    batch: tuple[Tensor, Tensor]  # kept, so that no other copy takes its memory while the side stream reads it
    observed: list[Tensor]  # G of [B, C, s, s]
    ends: list[End]  # of the coarse grids
    chains: Iterator[End]  # of the finest grid, not walked yet


class Ahead:
    """The updates of a learner that keeps its finest grid's gradient apart."""

    def __init__(self, learner: Learner):
        self._learner, self._coarse = learner, slice(len(learner.model.grids) - 1)
        self._weights = list(learner.model.grids[self._coarse].parameters())
        device = self._weights[0].device
        self._side = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._begun: Begun | None = None

    def learn(self, read: Read, update: int, method: Method, *, weight: float = 1.0) -> Learned:
        """One update of all grids, as learning.learn; of the next batch the coarse chains, too, if there is one."""
        learner = self._learner
        *coarse, finest = learner.parts
        begun = self._take(update, method) or self._begin(read, update, method)
        observed, how = iter(begun.observed), {"start_average": learner.start_average, "weight": weight}
        first = start_averaging(coarse, observed, iter(begun.ends), **how)
        with self._beside():
            first.finish()
            coarse_norms = step_all(learner, update, method, self._coarse)
            if update + 1 < method.num_updates:
                self._begun = self._begin(read, update + 1, method)
        last = start_averaging([finest], observed, begun.chains, **how)
        last.finish()
        finest_norm = step_all(learner, update, method, slice(self._coarse.stop, None))
        self._join()
        pairs = Pairs.of(begun.observed, [*first.ends, *last.ends])
        means = means_of(torch.cat([*first.energies, *last.energies], dim=1), pairs)
        return Learned(with_norms(weight * means, torch.cat([coarse_norms, finest_norm])), pairs.synthesised)

    def _begin(self, read: Read, update: int, method: Method) -> Begun:
        """Walk the coarse chains of an update."""
        batch = read(update)
        observed, chains = begin_pairs(self._learner.model, *batch, update, method, None)
        ends = [next(chains) for _ in range(self._coarse.stop)]
        return Begun(update, method, self._versions(), batch, observed, ends, chains)

    def _take(self, update: int, method: Method) -> Begun | None:
        """What was begun of this update, unless the weights have been changed since, by going back, say."""
        begun, self._begun = self._begun, None
        fits = begun and (begun.update, begun.method, begun.weights) == (update, method, self._versions())
        return begun if fits else None

    def _versions(self) -> list[int]:
        return [weight._version for weight in self._weights]

    @contextmanager
    def _beside(self) -> Iterator[None]:
        """Inside, the device is given work that may run beside what it is given next.

        Whatever is allocated here is freed to be used here again. Since this waits for all that the device was given
        before, nothing that the main stream still reads is written over.
        """
        if self._side is None:
            yield
            return
        self._side.wait_stream(torch.cuda.current_stream(self._side.device))
        with torch.cuda.stream(self._side):
            yield

    def _join(self) -> None:
        """Whatever comes next, an evaluation, say, finds both at their end."""
        if self._side is not None:
            torch.cuda.current_stream(self._side.device).wait_stream(self._side)
