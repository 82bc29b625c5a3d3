"""Models, methods and images that a test can train in milliseconds."""

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from distmgcd.core.energy import ConvEnergy, MultiGridEnergy
from distmgcd.core.langevin import Langevin
from distmgcd.core.learning import Learner, Method
from distmgcd.core.networks import ConvLayer, Head, convnet, residual
from distmgcd.core.parallel.overlap import StartAverage

LANGEVIN = Langevin(num_steps=4, step_size=0.5, temperature=1e-3, clamp="none")

BETAS = (0.5, 0.999)

METHOD = Method(
    sizes=(4, 8),
    langevin=(LANGEVIN, LANGEVIN),
    seed=3,
    flip=False,
    observed_noise=0.02,
    num_updates=20,
    warmup=2,
    learning_rate=(2e-3, 1e-3),
    final_rate=0.1,
    ema=0.9,
)


def small_energy(
    size: int, channels: int = 1, *, norm: str = "none", activation: str = "silu", reference_sigma: float = math.inf
) -> ConvEnergy:
    layers = (ConvLayer(3, 2, 6), ConvLayer(3, 1, 8))
    return ConvEnergy(
        convnet(size, channels, layers, activation=activation, norm=norm), reference_sigma=reference_sigma
    )


def small_residual_energy(
    size: int,
    channels: int = 1,
    *,
    norm: str = "none",
    activation: str = "silu",
    head: Head = "dense",
    reference_sigma: float = math.inf,
) -> ConvEnergy:
    layers = (ConvLayer(3, 2, 6), ConvLayer(3, 2, 6), ConvLayer(3, 2, 8))
    network = residual(size, channels, layers, activation=activation, norm=norm, head=head)
    return ConvEnergy(network, reference_sigma=reference_sigma)


def small_model(
    *, channels: int = 1, norm: str = "none", seed: int = 0, reference_sigma: float = 2.0
) -> MultiGridEnergy:
    """Grids 4 and 8, the same for the same seed."""
    torch.manual_seed(seed)
    return MultiGridEnergy(
        [small_energy(s, channels, norm=norm, reference_sigma=reference_sigma) for s in METHOD.sizes]
    )


def small_learner(
    model: MultiGridEnergy | None = None,
    wrapped: nn.Module | None = None,
    *,
    start_average: StartAverage | None = None,
) -> Learner:
    model = model or small_model()
    return Learner(model, wrapped or model, betas=BETAS, start_average=start_average)


def state_of(learner: Learner) -> list[Tensor]:
    """Weights, averaged weights and the optimisers' state, all as they are now."""
    states = [state for optimizer in learner.optimizers for state in optimizer.state.values()]
    adam = [value for state in states for value in state.values()]
    return [*learner.model.state_dict().values(), *learner.ema.state_dict().values(), *adam]


def method(**changes: object) -> Method:
    return replace(METHOD, **changes)


def random_pixels(num_images: int, *, channels: int = 1, size: int = 8, seed: int = 0) -> tuple[Tensor, Tensor]:
    """uint8 [num_images, channels, size, size], and indices that are not just 0, 1, ..."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (num_images, channels, size, size), generator=generator, dtype=torch.uint8)
    return pixels, torch.randperm(1000, generator=generator)[:num_images]
