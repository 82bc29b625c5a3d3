"""Chains that go on where those of samples end: what becomes of pictures, energy and drift after K, 2K, 10K steps.

    K     num_steps of the grid, after which a sample is taken
    mK    the chain of the same grid goes on from that sample, with the noise of steps K + 1, K + 2, ... of its number

Models that are trained by short chains are samplers of K steps; a longer chain of them need not draw better pictures,
and mostly draws worse ones. So say which number of steps a figure was taken at.
"""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from itertools import chain, islice
from typing import NamedTuple

from torch import Tensor

from distmgcd.core.energy import MultiGridEnergy, frozen
from distmgcd.core.langevin import Langevin, chain_end, walk
from distmgcd.core.synthesis import NoiseOfGrid
from distmgcd.evaluation.long_chains.mala import probe


class Mark(NamedTuple):
    """B chains of a grid after some number of steps."""

    grid: int
    multiple: int  # of the grid's num_steps
    pictures: Tensor  # [B, C, s, s], as the chain would give them if it ended here
    energy: Tensor  # [B] fp64
    drift_rms: Tensor  # [B] fp64, of the next step
    acceptance: Tensor  # [B] fp64, of the next step if it were Metropolis-adjusted
    saturation: Tensor  # [B] share of values at or beyond -1 and 1


def go_on(
    model: MultiGridEnergy,
    samples: Sequence[Tensor],
    noise: NoiseOfGrid,
    *,
    langevin: Sequence[Langevin],
    multiples: Sequence[int],
) -> Iterator[Mark]:
    """The samples at every grid, G of [B, C, s, s], and their chains at these multiples of num_steps, rising.

    They go on with the whole noise of their temperature, also where it falls over the climb: it is the density that
    is looked at.
    """
    # Not inside frozen(model): torch keeps the cached weights of a spectral norm under the module it was copied from.
    exact = deepcopy(model).double().requires_grad_(False).eval()
    for grid, (energy, x, settings) in enumerate(zip(model.grids, samples, langevin, strict=True)):
        num_steps = settings.num_steps
        marks = [num_steps * (multiple - 1) for multiple in multiples]  # steps after the sample
        of_all_steps = noise(grid, tuple(x.shape[1:]), num_steps + marks[-1] + 1)
        ahead: Iterator[Tensor] = islice(iter(of_all_steps), num_steps, None)
        done = 0
        for multiple, mark in zip(multiples, marks, strict=True):
            with frozen(model):
                for y, _ in walk(energy, x, islice(ahead, mark - done), settings):
                    x = y
            done, next_noise = mark, next(ahead)
            yield _look(exact.grids[grid], x, next_noise, settings, grid, multiple)
            ahead = chain([next_noise], ahead)


def _look(
    energy: Callable[[Tensor], Tensor], x: Tensor, noise: Tensor, langevin: Langevin, grid: int, multiple: int
) -> Mark:
    found = probe(energy, x, noise, langevin)
    saturation = (x.abs() >= 1.0).flatten(1).double().mean(1)
    return Mark(grid, multiple, chain_end(x, langevin), *found, saturation)
