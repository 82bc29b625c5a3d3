"""The gradient of a coarse grid is averaged over workers while the finer grid samples.

The grids share no parameter. So as soon as the chains of grid s have ended, its gradient is known,

    g_s = grad [mean_i U_s(observed_i) - mean_i U_s(synthesised_i)]

and its average can be on its way while the chains of the next grid walk. Only the optimiser's step waits for it. What
is added up is what one backward pass through a DDP model adds up; it is told to the other workers earlier. A message
costs them some time however short it is, so small gradients wait for that of the next grid, and go with it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

import torch
from torch import Tensor

from distmgcd.core.energy import ConvEnergy, MultiGridEnergy
from distmgcd.core.langevin import StepInfo

LEAST_BYTES = 1 << 20  # of gradient in one message, but the last one

# Starts to average a vector over all workers, in place; what it returns waits until that is done.
StartAverage = Callable[[Tensor], Callable[[], None]]
End = tuple[Tensor, StepInfo]  # where the chains of a grid ended [B, C, s, s], and what their last step did


class Part:
    """Neighbouring grids whose gradients are averaged in one message."""

    def __init__(self, grids: Iterable[ConvEnergy]):
        self.model = MultiGridEnergy(grids)
        self.parameters = list(self.model.parameters())
        counts = [p.numel() for p in self.parameters]
        self.gradient = self.parameters[0].new_zeros(sum(counts))  # of all of them [P], the same memory at every update
        self._views = [view.view_as(p) for p, view in zip(self.parameters, self.gradient.split(counts), strict=True)]

    def set_gradients(self) -> None:
        """Give every parameter its part of the gradient."""
        for parameter, view in zip(self.parameters, self._views, strict=True):
            parameter.grad = view


def parts_of(model: MultiGridEnergy) -> list[Part]:
    """The whole model, coarse to fine, cut into the parts whose gradients are averaged in one message each."""
    num_bytes = [sum(p.numel() * p.element_size() for p in grid.parameters()) for grid in model.grids]
    return [Part(model.grids[first:last]) for first, last in messages(num_bytes)]


def messages(num_bytes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Which grids have their gradients, of so many bytes, averaged at once: first, and one past the last."""
    first = 0
    for last in range(1, len(num_bytes) + 1):
        if last == len(num_bytes) or sum(num_bytes[first:last]) >= LEAST_BYTES:
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
    """Run the chains of all grids and give every parameter its gradient, averaged over workers.

    observed: [B, C, s, s] of every grid; chains: as synthesis.sample_grids, run as they are asked for. weight: of this
    worker's gradient. Returns where the chains ended, and this worker's mean energies [2, G].
    """
    observed, chains = iter(observed), iter(chains)
    ends, energies, waits = [], [], []
    for part in parts:
        num_grids = len(part.model.grids)
        ended = list(islice(chains, num_grids))
        means = part.model(list(islice(observed, num_grids)), [x for x, _ in ended])
        gradients = torch.autograd.grad(weight * (means[0] - means[1]).sum(), part.parameters)
        torch.cat([values.flatten() for values in gradients], out=part.gradient)
        waits.append(start_average(part.gradient))
        energies.append(means.detach())
        ends += ended
    for part, wait in zip(parts, waits, strict=True):
        wait()
        part.set_gradients()
    return ends, torch.cat(energies, dim=1)
