"""Long chains: chains of samples that continue. Pictures, energy and drift after K, 2K, 10K steps, and a sheet.

    K     num_steps of the grid, after which a sample is taken
    mK    the chain of the same grid goes on from that sample, with the noise of steps K + 1, K + 2, ... of its number

Models that are trained by short chains are samplers of K steps; a longer chain of them need not draw better pictures,
and mostly draws worse ones. So every number is given with its number of steps.

`probe`: how far a Langevin step is from detailed balance, the acceptance rate of a Metropolis-adjusted one.

    x' = x - (s^2 / 2) grad U(x) + s sqrt(T) z                  what the chain does next, as a proposal
    log q(x' | x) = -|x' - x + (s^2 / 2) grad U(x)|^2 / (2 s^2 T) + constant
    acceptance = min(1, exp((U(x) - U(x')) / T + log q(x | x') - log q(x' | x)))         for the target exp(-U / T)

A chain is not changed by it: this is a probe. Near 1 the unadjusted chain samples its energy nearly without bias; 0.574
is the best rate of an adjusted chain in many dimensions (Roberts, Rosenthal 1998); near 0 the step is far too long for
that target, and what the chain draws is a matter of its number of steps (a short-run model). The clamp is left out.
"""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from itertools import chain, islice
from typing import Any, NamedTuple

import torch
from torch import Tensor

from distmgcd.core.energy import MultiGridEnergy, frozen
from distmgcd.core.grids import pool
from distmgcd.core.langevin import Energy, Langevin, chain_end, iter_steps
from distmgcd.core.noise import Purpose
from distmgcd.core.synthesis import ChainNoise, NoiseOfGrid
from distmgcd.evaluation.distances.statistics import gather_rows, own_batches
from distmgcd.evaluation.distances.swd import sliced_wasserstein
from distmgcd.evaluation.pictures.strip import Row, Strip
from distmgcd.evaluation.subject import Chosen, Samples, Subject, choose
from distmgcd.models.assemble import make_langevin
from distmgcd.models.sampling import as_floats
from distmgcd.workers.collectives import Worker

NUM_CHAINS = 256
_NUM_SHOWN = 12
_VALUES = ("energy", "drift_rms", "acceptance", "saturation")


class Probe(NamedTuple):
    """Of every chain [B], in fp64."""

    energy: Tensor  # U(x)
    drift_rms: Tensor  # of (s^2 / 2) grad U(x)
    acceptance: Tensor  # of the next step; nan at temperature 0, which has no such target


def probe(energy: Energy, x: Tensor, noise: Tensor, langevin: Langevin) -> Probe:
    """At x [B, C, H, W], with the standard normal noise of the next step; the energy is of frozen weights and fp64,
    because U / T of a cold chain spends the digits of fp32.
    """
    x, noise = x.double(), noise.double()
    u, drift = _energy_and_drift(energy, x, langevin)
    proposed = x - drift + langevin.noise_std * noise
    u_there, drift_there = _energy_and_drift(energy, proposed, langevin)
    drift_rms = drift.square().flatten(1).mean(1).sqrt()
    if langevin.temperature == 0:
        return Probe(u, drift_rms, torch.full_like(u, torch.nan))
    there = -0.5 * noise.square().flatten(1).sum(1)
    back = -0.5 * ((x - proposed + drift_there) / langevin.noise_std).square().flatten(1).sum(1)
    log_ratio = (u - u_there) / langevin.temperature + back - there
    return Probe(u, drift_rms, log_ratio.clamp(max=0.0).exp())


def _energy_and_drift(energy: Energy, x: Tensor, langevin: Langevin) -> tuple[Tensor, Tensor]:
    x = x.detach().requires_grad_()
    u = energy(x)
    (gradient,) = torch.autograd.grad(u.sum(), x)
    return u.detach(), gradient * langevin.drift_scale


class Mark(NamedTuple):
    """B chains of a grid after some number of steps."""

    grid: int
    multiple: int  # of the grid's num_steps
    pictures: Tensor  # [B, C, s, s], as the chain would give them if it ended here
    energy: Tensor  # [B] fp64
    drift_rms: Tensor  # [B] fp64, of the next step
    acceptance: Tensor  # [B] fp64, of the next step if it were Metropolis-adjusted
    saturation: Tensor  # [B] share of values at or beyond -1 and 1


def continue_chains(
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
                for y, _ in iter_steps(energy, x, islice(ahead, mark - done), settings):
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


class Chains(NamedTuple):
    """Of n chains at every grid and multiple."""

    values: dict[tuple[int, int], Tensor]  # (grid, multiple): [n, 4], as _VALUES
    pictures: dict[tuple[int, int], Tensor]  # [n, C, s, s]


def run_chains(subject: Subject, worker: Worker) -> Chains | None:
    """All workers call it, each runs its share."""
    marks: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = {}
    for numbers in own_batches(min(NUM_CHAINS, subject.num), subject.batch_size, worker):
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
            found.values[grid, multiple] = gather_rows(values, worker)
            found.pictures[grid, multiple] = gather_rows(pictures, worker)
    return found if worker.rank == 0 else None


def _marks(subject: Subject, numbers: Tensor) -> Iterator[Mark]:
    trained, seed = subject.trained, subject.request.seed
    samples = Samples(trained, seed=seed).at_every_grid(numbers)
    noise = ChainNoise(numbers.to(trained.device), seed, purpose=Purpose.SAMPLE_CHAIN)
    langevin = make_langevin(trained.config)
    return continue_chains(trained.model, samples, noise, langevin=langevin, multiples=subject.request.multiples)


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
            energies = chains.values[grid, multiple][:_NUM_SHOWN, 0].tolist()
            rows.append(
                Row.plain(
                    f"{multiple * settings[grid].num_steps}",
                    chains.pictures[grid, multiple][:_NUM_SHOWN],
                    below=[f"U {energy:.4g}" for energy in energies],
                )
            )
        strips.append(Strip(f"{size}x{size} after so many steps", rows))
    return strips
