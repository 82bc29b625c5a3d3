"""The chains of one update with every step kept, for a person to look at."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor

from distmgcd.core.energy import MultiGridEnergy, frozen, frozen_norms
from distmgcd.core.langevin import Energy, Langevin, StepInfo
from distmgcd.core.learning import Method, prepare
from distmgcd.core.synthesis import PreviousEnds, iter_grid_steps


@dataclass(frozen=True, eq=False)
class GridChains:
    """The chains of n images at one grid, K steps each. Picture 0 is the start, picture K the end.

    A clamp after the chain (langevin.clamp=end) belongs to its last step.
    """

    size: int
    langevin: Langevin
    pictures: Tensor  # [K + 1, n, C, s, s]
    energy: Tensor  # [K + 1, n] U of every picture
    drift: Tensor  # [K, n] rms of (s^2 / 2) grad U, of the step from picture k to k + 1
    observed: Tensor  # [n, C, s, s] what the images are at this grid, with the noise that learning adds
    observed_energy: Tensor  # [n]

    @cached_property
    def displacement(self) -> Tensor:
        """[K + 1, n] rms of the difference to the start."""
        return rms(self.pictures - self.pictures[0])

    @cached_property
    def saturation(self) -> Tensor:
        """[K + 1, n] fraction of values at or beyond -1 and 1."""
        return (self.pictures.abs() >= 1.0).flatten(2).float().mean(2)

    @cached_property
    def finite(self) -> Tensor:
        """[K + 1, n] whether picture, energy and the drift that led there are finite."""
        drift = torch.cat([torch.zeros_like(self.drift[:1]), self.drift])
        return self.pictures.isfinite().flatten(2).all(2) & self.energy.isfinite() & drift.isfinite()

    def is_clamped(self, step: int) -> bool:
        """Whether the picture after this many steps was clamped to [-1, 1]."""
        last = len(self.pictures) - 1
        return self.langevin.clamp == "step" and step > 0 or self.langevin.clamp == "end" and step == last

    def of(self, rows: Tensor) -> "GridChains":
        """The same of some of the images."""
        return self._with(lambda name: getattr(self, name)[:, rows] if name in _PER_STEP else getattr(self, name)[rows])

    @staticmethod
    def joined(parts: Sequence["GridChains"]) -> "GridChains":
        """Of the images of all parts, one after the other."""
        return parts[0]._with(
            lambda name: torch.cat([getattr(part, name) for part in parts], dim=1 if name in _PER_STEP else 0)
        )

    def _with(self, value_of: Callable[[str], Tensor]) -> "GridChains":
        return replace(self, **{name: value_of(name) for name in (*_PER_STEP, "observed", "observed_energy")})


_PER_STEP = ("pictures", "energy", "drift")


def record_chains(
    model: MultiGridEnergy,
    pixels: Tensor,
    indices: Tensor,
    update: int,
    method: Method,
    *,
    rows: Tensor,
    previous: PreviousEnds | None = None,
    block_size: int | None = None,
) -> list[GridChains]:
    """Walk the chains of an update as learning does, and keep every step of some of them, on the CPU.

    pixels: uint8 [B, C, S, S]; indices: int64 [B]; update counts from 0, as in core.learning.learn. rows: int64 [n],
    which of the B to keep. previous: where persistent chains continue. block_size: as core.parallel.blocks runs them;
    blocks without any of the rows are left out.
    """
    if block_size is None:
        return _of_batch(model, pixels, indices, update, method, rows, previous)
    block_of = rows // block_size
    order = block_of.argsort(stable=True)
    with frozen_norms(model):  # as learn_in_blocks has it
        parts = []
        for block in block_of.unique().tolist():
            part = slice(block * block_size, (block + 1) * block_size)
            kept = rows[block_of == block] - part.start
            ends = previous and previous.at(part)
            parts.append(_of_batch(model, pixels[part], indices[part], update, method, kept, ends))
    return [GridChains.joined(grids).of(order.argsort().cpu()) for grids in zip(*parts, strict=True)]


def _of_batch(
    model: MultiGridEnergy,
    pixels: Tensor,
    indices: Tensor,
    update: int,
    method: Method,
    rows: Tensor,
    previous: PreviousEnds | None,
) -> list[GridChains]:
    """These chains, all at once; as core.learning.sample_pairs does."""
    observed, start_images, noise, start, fixed = prepare(pixels, indices, update, method, previous)
    how = {"sizes": method.sizes, "langevin": method.langevin, "executor": method.executor}
    with frozen(model):
        steps = iter_grid_steps(model, start_images, noise, start=start, fixed=fixed, **how)
        return [
            _of_grid(
                model.grids[grid],
                ((x, info) for _, _, x, info in steps_of_grid),
                observed[grid],
                method.langevin[grid],
                rows,
            )
            for grid, steps_of_grid in groupby(steps, key=itemgetter(0))
        ]


def _of_grid(
    energy: Energy,
    steps: Iterable[tuple[Tensor, StepInfo | None]],
    observed: Tensor,
    langevin: Langevin,
    rows: Tensor,
) -> GridChains:
    x, pictures, energies, drifts = observed, [], [], []  # x: of the last step
    for x, info in steps:
        pictures.append(x[rows])
        if info is not None:
            energies.append(info.energy[rows])  # where the step started: of the picture before
            drifts.append(rms(info.drift[rows]))
    with torch.no_grad():
        energies.append(energy(x)[rows])
        observed_energy = energy(observed)[rows]
    kept = (torch.stack(pictures), torch.stack(energies), torch.stack(drifts), observed[rows], observed_energy)
    return GridChains(x.shape[-1], langevin, *(values.cpu() for values in kept))


def rms(values: Tensor) -> Tensor:
    """Over the last three dimensions, which are a picture's."""
    return values.double().square().flatten(-3).mean(-1).sqrt().float()  # the square of a large fp32 overflows


def worst(grids: list[GridChains], num: int) -> Tensor:
    """Rows of the chains whose last step drifted most at any grid, the worst first; what is not finite is worst."""
    last = torch.stack([grid.drift[-1].nan_to_num(nan=torch.inf) for grid in grids])
    return last.amax(0).argsort(descending=True, stable=True)[:num]


def rows_of(grids: list[GridChains], images: list[int]) -> Iterator[dict[str, Any]]:
    """One record a picture: image by image, grid by grid, step by step. Step 0 has no drift and no noise."""
    for number, image in enumerate(images):
        for grid in grids:
            for step in range(len(grid.pictures)):
                yield {
                    "image": image,
                    "grid": grid.size,
                    "step": step,
                    "energy": float(grid.energy[step, number]),
                    "drift": float(grid.drift[step - 1, number]) if step else None,
                    "noise": grid.langevin.noise_std * grid.langevin.noise_factor(step - 1) if step else None,
                    "displacement": float(grid.displacement[step, number]),
                    "saturation": float(grid.saturation[step, number]),
                    "clamped": grid.is_clamped(step),
                    "finite": bool(grid.finite[step, number]),
                }
