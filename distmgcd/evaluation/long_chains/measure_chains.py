"""Long chains of a run's samples: what is measured at every grid after K, 2K, 10K steps, and a sheet of them."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from distmgcd.core.grids import pool
from distmgcd.core.noise import Purpose
from distmgcd.core.synthesis import ChainNoise
from distmgcd.evaluation.distances.swd import sliced_wasserstein
from distmgcd.evaluation.long_chains.drift import Mark, go_on
from distmgcd.evaluation.merge import in_order, own_batches
from distmgcd.evaluation.pictures.strip import Row, Strip
from distmgcd.evaluation.subject import Chosen, Samples, Subject, choose
from distmgcd.models.assemble import make_langevin
from distmgcd.models.sampling import as_floats
from distmgcd.workers.collectives import Worker

NUM_CHAINS = 256
_NUM_SHOWN = 12
_VALUES = ("energy", "drift_rms", "acceptance", "saturation")


class Chains(NamedTuple):
    """Of n chains at every grid and multiple, in the first worker."""

    values: dict[tuple[int, int], Tensor]  # (grid, multiple): [n, 4], as _VALUES
    pictures: dict[tuple[int, int], Tensor]  # [n, C, s, s]


def walk_chains(subject: Subject, worker: Worker) -> Chains | None:
    """All workers call it, each walks its share."""
    marks: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = {}
    for numbers in own_batches(min(NUM_CHAINS, subject.request.num), subject.batch_size, worker):
        for mark in _marks(subject, numbers):
            values = torch.stack([getattr(mark, name) for name in _VALUES], 1)
            marks.setdefault((mark.grid, mark.multiple), []).append((values.cpu(), mark.pictures.cpu()))
    found = Chains({}, {})
    config = subject.trained.config
    for grid, size in enumerate(config.grids.sizes):
        for multiple in subject.request.multiples:
            own = marks.get((grid, multiple), [])
            none = torch.zeros(0, len(_VALUES), dtype=torch.float64), torch.zeros(0, config.data.channels, size, size)
            values, pictures = (torch.cat(parts) for parts in zip(none, *own, strict=True))
            found.values[grid, multiple] = in_order(values, worker)
            found.pictures[grid, multiple] = in_order(pictures, worker)
    return found if worker.rank == 0 else None


def _marks(subject: Subject, numbers: Tensor) -> Iterator[Mark]:
    trained, seed = subject.trained, subject.request.seed
    samples = Samples(trained, seed=seed).at_every_grid(numbers)
    noise = ChainNoise(numbers.to(trained.device), seed, purpose=Purpose.SAMPLE_CHAIN)
    langevin = make_langevin(trained.config)
    return go_on(trained.model, samples, noise, langevin=langevin, multiples=subject.request.multiples)


def measure_chains(subject: Subject, chains: Chains) -> dict[str, Any]:
    """Means over chains, per grid and number of steps, beside the energy of as many held-out images."""
    config, num = subject.trained.config, len(chains.values[0, subject.request.multiples[0]])
    settings, grids = make_langevin(config), {}
    data, other = (
        _images(choose(images, num, key=key)) for key, images in enumerate((subject.held_out, subject.images))
    )
    for grid, size in enumerate(config.grids.sizes):
        data_here = pool(data, size)
        with torch.no_grad():
            energies = subject.trained.model.grids[grid](data_here.to(subject.trained.device))
        grids[str(size)] = {
            "noise": settings[grid].noise_std,
            "energy_of_held_out": float(energies.mean()),
            "swd_of_data": sliced_wasserstein(pool(other, size), data_here),
            "steps": {
                str(multiple * settings[grid].num_steps): _at(chains, grid, multiple, data_here)
                for multiple in subject.request.multiples
            },
        }
    return {"num": num, "grids": grids, "protocol": _protocol(subject, num)}


def _at(chains: Chains, grid: int, multiple: int, data: Tensor) -> dict[str, float]:
    values, pictures = chains.values[grid, multiple], chains.pictures[grid, multiple]
    errors = values.std(0, correction=min(1, len(values) - 1)) / len(values) ** 0.5
    means = dict(zip(_VALUES, values.mean(0).tolist(), strict=True))
    return {**means, "energy_error": float(errors[0]), "swd": sliced_wasserstein(pictures.clamp(-1.0, 1.0), data)}


def _images(chosen: Chosen) -> Tensor:
    return as_floats(chosen.images.images[chosen.rows])


def _protocol(subject: Subject, num: int) -> dict[str, Any]:
    return {
        "chains": f"those of samples 0 to {num - 1}, each grid's going on by itself from where samples are taken",
        "multiples of K": list(subject.request.multiples),
        "energy_error": "standard error of the mean energy over chains",
        "drift_rms": "of (s^2 / 2) grad U at the next step; pixels span [-1, 1]",
        "acceptance": "mean of min(1, Metropolis-Hastings ratio) of the next step as a proposal for exp(-U / T), "
        "without the clamp, in fp64; null at temperature 0",
        "saturation": "share of values at or beyond -1 and 1",
        "swd": f"sliced Wasserstein distance of these {num} pictures to {num} images of {subject.held_out.name}; "
        f"swd_of_data: of {num} images of {subject.images.name} to the same",
    }


def chain_strips(subject: Subject, chains: Chains) -> list[Strip]:
    """A grid a strip, finest first; a row a number of steps, a column a chain."""
    config, settings = subject.trained.config, make_langevin(subject.trained.config)
    strips = []
    for grid, size in reversed(list(enumerate(config.grids.sizes))):
        rows = []
        for multiple in subject.request.multiples:
            pictures = chains.pictures[grid, multiple][:_NUM_SHOWN]
            energies = chains.values[grid, multiple][:_NUM_SHOWN, 0].tolist()
            rows.append(
                Row(
                    label=f"{multiple * settings[grid].num_steps}",
                    pictures=pictures,
                    above=[""] * len(pictures),
                    below=[f"U {energy:.4g}" for energy in energies],
                    marked=[False] * len(pictures),
                    last_is_aside=False,
                )
            )
        strips.append(Strip(f"{size}x{size} after so many steps", rows))
    return strips
