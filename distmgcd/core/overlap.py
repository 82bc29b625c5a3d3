"""The gradient of a coarse grid is averaged over workers while the finer grid samples.

The grids share no parameter. So as soon as the chains of grid s have ended, its gradient is known,

    g_s = grad [mean_i U_s(observed_i) - mean_i U_s(synthesised_i)]

and its average can be on its way while the chains of the next grid walk. Only the optimiser's step waits for it. What
is added up is what one backward pass through a DDP model adds up; it is told to the other workers earlier. A message
costs them some time however short it is, so small gradients wait for that of the next grid, and go with it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor, nn

from distmgcd.core.energy import MultiGridEnergy
from distmgcd.core.langevin import StepInfo

LEAST_BYTES = 1 << 20  # of gradient in one message, but the last one

# Starts to average a vector over all workers, in place; what it returns waits until that is done.
StartAverage = Callable[[Tensor], Callable[[], None]]
End = tuple[Tensor, StepInfo]  # where the chains of a grid ended [B, C, s, s], and what their last step did


class Part(NamedTuple):
    """Neighbouring grids whose gradients are averaged in one message."""

    model: MultiGridEnergy
    parameters: list[nn.Parameter]


def parts_of(model: MultiGridEnergy) -> list[Part]:
    """The whole model, coarse to fine."""
    num_bytes = [sum(p.numel() * p.element_size() for p in grid.parameters()) for grid in model.grids]
    parts = [MultiGridEnergy(model.grids[first:last]) for first, last in messages(num_bytes)]
    return [Part(part, list(part.parameters())) for part in parts]


def messages(num_bytes: Sequence[int], *, least: int | None = None) -> Iterator[tuple[int, int]]:
    """Which grids have their gradients, of so many bytes, averaged at once: first, and one past the last."""
    least = LEAST_BYTES if least is None else least
    first = 0
    for last in range(1, len(num_bytes) + 1):
        if last == len(num_bytes) or sum(num_bytes[first:last]) >= least:
            yield first, last
            first = last


def average_beside_chains(
    parts: Sequence[Part],
    observed: Iterable[Tensor],
    chains: Iterable[End],
    start_average: StartAverage,
    *,
    weight: float,
) -> tuple[list[End], Tensor]:
    """Walk the chains of all grids and give every parameter its averaged gradient.

    observed: G of [B, C, s, s]; chains: as synthesis.grid_by_grid; weight: of this worker's gradient. Returns where
    the chains ended, and this worker's mean energies [2, G], as MultiGridEnergy.forward.
    """
    observed, chains, ends, energies, on_their_way = iter(observed), iter(chains), [], [], []
    for model, parameters in parts:
        ended = list(islice(chains, len(model.grids)))
        means = model(list(islice(observed, len(model.grids))), [x for x, _ in ended])
        gradients = torch.autograd.grad(weight * (means[0] - means[1]).sum(), parameters)
        gradient = torch.cat([values.flatten() for values in gradients])  # one vector [P]
        on_their_way.append((parameters, gradient, start_average(gradient)))
        energies.append(means.detach())
        ends += ended
    for parameters, gradient, wait in on_their_way:
        wait()
        set_gradients(parameters, gradient)
    return ends, torch.cat(energies, dim=1)


def set_gradients(parameters: Sequence[nn.Parameter], gradient: Tensor) -> None:
    """Give every parameter its part of one flat gradient [P]."""
    for parameter, part in zip(parameters, gradient.split([p.numel() for p in parameters]), strict=True):
        parameter.grad = part.view_as(parameter)
