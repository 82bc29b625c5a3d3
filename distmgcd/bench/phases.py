"""One update in its parts, one after the other: the same arithmetic as core.learning.learn, bit for bit.

read, observe, noise and chain of every grid, gradient, optimiser, rest. What is timed around them is the caller's.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor

from distmgcd.bench.timing import wait
from distmgcd.bench.updates import Batch
from distmgcd.core.energy import frozen
from distmgcd.core.grids import expand
from distmgcd.core.learning import Learner, Method, Pairs, means_of, prepare, step_all, with_norms
from distmgcd.core.synthesis import ChainNoise

# What is entered around a part of an update, given its name.
Around = Callable[[str], AbstractContextManager[Any]]


def learn_by_phase(learner: Learner, batch: Batch, update: int, method: Method, around: Around) -> None:
    """As learn, on images that are read first."""
    with around("read"):
        pixels = batch.read()
    with around("observe"):
        observed, x, draws, start, fixed = prepare(pixels, batch.indices, update, method)
    ends, last_steps = [], []
    with frozen(learner.model):
        for grid, (energy, size, settings) in enumerate(
            zip(learner.model.grids, method.sizes, method.langevin, strict=True)
        ):
            noise = _Noise(draws, f"noise {size}x{size}", around)
            with around(f"chain {size}x{size}"):
                x = start(grid, expand(x, size))
                z = noise(grid, tuple(x.shape[1:]), settings.num_steps)
                x, info = method.executor.run_chain(energy, x, z, settings, fixed[grid] if fixed else None)
            ends.append(x)
            last_steps.append(info)
    with around("gradient"):
        energies = learner.wrapped(observed, ends)
        for optimizer in learner.optimizers:
            optimizer.zero_grad(set_to_none=True)
        (energies[0] - energies[1]).sum().backward()
    with around("optimiser"):
        norms = step_all(learner, update, method)
    with around("rest"):
        with_norms(means_of(energies.detach(), Pairs(observed, ends, last_steps)), norms)


class _Noise:
    """The noise of chains, each draw of it inside a phase of its own."""

    def __init__(self, noise: ChainNoise, phase: str, around: Around):
        self._noise, self._phase, self._around = noise, phase, around

    def __call__(self, grid: int, shape: tuple[int, ...], num_steps: int) -> Iterator[Tensor]:
        draws = iter(self._noise(grid, shape, num_steps))
        for _ in range(num_steps):
            with self._around(self._phase):
                z = next(draws)
            yield z


class Clock:
    """Seconds of every phase, each without what is nested in it. On CUDA the time that the stream has taken."""

    def __init__(self, device: torch.device):
        self._device = device
        self._phases: list[str | None] = [None]
        self._marks: list[tuple[Any, str | None]] = []  # (when, the phase from then on)

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        self._phases.append(phase)
        self._mark()
        yield
        self._phases.pop()
        self._mark()

    def seconds(self) -> dict[str, float]:
        """Since the clock was made."""
        wait(self._device)
        total: dict[str, float] = defaultdict(float)
        for (start, phase), (end, _) in zip(self._marks, self._marks[1:], strict=False):
            if phase is not None:
                total[phase] += start.elapsed_time(end) / 1000 if self._device.type == "cuda" else end - start
        return dict(total)

    def _mark(self) -> None:
        if self._device.type == "cuda":
            now = torch.cuda.Event(enable_timing=True)
            now.record()
        else:
            now = time.perf_counter()
        self._marks.append((now, self._phases[-1]))
