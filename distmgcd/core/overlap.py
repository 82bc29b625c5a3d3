"""The gradient of a coarse grid is averaged over workers while the finer grid samples.

The grids share no parameter. So as soon as the chains of grid s have ended, its gradient is known,

    g_s = grad [mean_i U_s(observed_i) - mean_i U_s(synthesised_i)]          one flat vector [P_s]

and its average can be on its way while the chains of the next grid walk. Only the optimiser's step waits for it. What
is added up is what one backward pass through a DDP model adds up; it is told to the other workers earlier.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from distmgcd.core.energy import ConvEnergy, MultiGridEnergy
from distmgcd.core.langevin import StepInfo

# Starts to average a vector over all workers, in place; what it returns waits until that is done.
StartAverage = Callable[[Tensor], Callable[[], None]]
End = tuple[Tensor, StepInfo]  # where the chains of a grid ended [B, C, s, s], and what their last step did


def average_beside_chains(
    model: MultiGridEnergy,
    observed: Sequence[Tensor],
    chains: Iterable[End],
    start_average: StartAverage,
    *,
    weight: float,
) -> tuple[list[End], Tensor]:
    """Walk the chains of all grids and give every parameter its averaged gradient.

    observed: G of [B, C, s, s]; chains: as synthesis.grid_by_grid; weight: of this worker's gradient. Returns where
    the chains ended, and this worker's mean energies [2, G], as MultiGridEnergy.forward.
    """
    ends, energies, on_their_way = [], [], []
    for energy, images, (x, info) in zip(model.grids, observed, chains, strict=True):
        means, gradient = gradient_of_gap(energy, images, x, weight=weight)
        on_their_way.append((gradient, start_average(gradient)))
        energies.append(means)
        ends.append((x, info))
    for energy, (gradient, wait) in zip(model.grids, on_their_way, strict=True):
        wait()
        set_gradients(energy, gradient)
    return ends, torch.stack(energies, dim=1)


def gradient_of_gap(
    energy: ConvEnergy, observed: Tensor, synthesised: Tensor, *, weight: float
) -> tuple[Tensor, Tensor]:
    """Mean energies [2] of the observed and the synthesised images, and the weighted gradient of their gap [P]."""
    with parametrize.cached():  # a spectral norm moves at every call in training; both need the same
        means = torch.stack([energy(images).mean() for images in (observed, synthesised)])
    gradients = torch.autograd.grad(weight * (means[0] - means[1]), list(energy.parameters()))
    return means.detach(), torch.cat([gradient.flatten() for gradient in gradients])


def set_gradients(module: nn.Module, gradient: Tensor) -> None:
    """Give every parameter its part of one flat gradient [P]."""
    parameters = list(module.parameters())
    for parameter, part in zip(parameters, gradient.split([p.numel() for p in parameters]), strict=True):
        parameter.grad = part.view_as(parameter)
