"""The whole algorithm on one page: minimal contrastive divergence at every grid at once.

For every grid, separately and simultaneously (Gao et al. 2017, section 3.3):

    gap_s = mean_i U_s(observed_i) - mean_i U_s(synthesised_i)
    weights_s <- Adam(weights_s, grad gap_s)                synthesised images are constants

With a mask, the chains move hidden pixels only, and hold the others at those of the observed image: a model of what is
hidden given the rest, which generalises Besag's pseudo-likelihood (the same paper, on inpainting).
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from distmgcd.core.energy import MultiGridEnergy
from distmgcd.core.execution.executors import PLAIN, ChainExecutor
from distmgcd.core.grids import pyramid
from distmgcd.core.inpainting import Known
from distmgcd.core.langevin import FixedPixels, Langevin, StepInfo
from distmgcd.core.masks import MaskKind, draw_masks
from distmgcd.core.noise import Purpose, normals, random_words, uniform
from distmgcd.core.parallel.overlap import End, StartAverage, average_beside_chains, parts_of
from distmgcd.core.synthesis import ChainNoise, PreviousEnds, StartKind, StartOfGrid, sample_grids, training_start

# Of every grid at every update. All but the last two are means over images, so a mean over workers that is weighted by
# their numbers of images is that of the whole batch; this is why the drift is kept squared.
METRICS = ("energy_observed", "energy_synthesised", "drift_squared", "saturation", "gradient_norm", "skipped")
NUM_MEANS = 4

NOISE_FALLS_OVER = 0.3  # of all updates: coarse structure is learned first, from data that are easy to reach


@dataclass(frozen=True)
class Method:
    """The numbers of the method. Per grid, coarse to fine, where it is a sequence."""

    sizes: Sequence[int]
    langevin: Sequence[Langevin]
    seed: int
    flip: bool  # mirror half of the observed images
    observed_noise: float  # deviation of the Gaussian noise on the observed images, as learning begins
    num_updates: int
    warmup: int  # updates over which the learning rate rises from 0
    learning_rate: Sequence[float]
    final_rate: float  # learning rate at the end of its decay, as a fraction of the full one
    ema: float  # decay of the average of the weights
    decay_updates: int | None = None  # after which the learning rate stays at final_rate; None: num_updates
    final_observed_noise: float | None = None  # where that deviation falls to, over NOISE_FALLS_OVER; None: it stays
    clip_norm: Sequence[float] | None = None  # largest norm of a gradient; larger ones are scaled down. None: no bound
    start: StartKind = "multigrid"
    mask: MaskKind | None = None  # hide so much of every image, at each update elsewhere, and let chains move only that
    executor: ChainExecutor = PLAIN  # how chains are executed; every one walks the same chain


class Learner:
    """The state that learning changes: the model, its wrapped form, one optimiser a grid, averaged weights."""

    def __init__(
        self,
        model: MultiGridEnergy,
        wrapped: nn.Module,
        *,
        betas: tuple[float, float],
        start_average: StartAverage | None = None,
    ):
        self.model = model  # bare: chains run on it
        self.wrapped = wrapped  # the same, or DDP around it: a backward pass averages gradients over ranks
        self.start_average = start_average  # averages them instead, part by part, beside the chains of finer grids
        self.parts = parts_of(model) if start_average else []
        self.ema = deepcopy(model).requires_grad_(False).eval()
        self.optimizers = [torch.optim.Adam(grid.parameters(), betas=betas, fused=True) for grid in model.grids]


class Learned(NamedTuple):
    """What an update leaves behind beside the new weights."""

    metrics: Tensor  # [G, len(METRICS)], this worker's part: weighted, so that their mean over workers is the batch's
    synthesised: list[Tensor]  # G of [B, C, s, s], where the chains ended


def learn(
    learner: Learner,
    pixels: Tensor,
    indices: Tensor,
    update: int,
    method: Method,
    *,
    weight: float = 1.0,
    previous: PreviousEnds | None = None,
) -> Learned:
    """One update of all grids on this worker's share of the batch.

    pixels: uint8 [B, C, S, S]; indices: int64 [B], where each image stands in the data set. weight: B over the mean
    share, with which the mean over workers of their gradients is that of the whole batch. previous: where persistent
    chains go on.
    """
    observed, chains = begin_pairs(learner.model, pixels, indices, update, method, previous)
    if learner.start_average is None:
        pairs = Pairs.of(observed, chains)
        energies = learner.wrapped(pairs.observed, pairs.synthesised)  # [2, G]
        gaps = energies[0] - energies[1]
        for optimizer in learner.optimizers:
            optimizer.zero_grad(set_to_none=True)
        (weight * gaps.sum()).backward()  # one average; no parameter is shared, so the sum keeps the grids apart
    else:  # the same gradients, each averaged as soon as it is known
        ends, energies = average_beside_chains(learner.parts, observed, chains, learner.start_average, weight=weight)
        pairs = Pairs.of(observed, ends)
    norms = step_all(learner, update, method)
    return Learned(with_norms(weight * means_of(energies.detach(), pairs), norms), pairs.synthesised)


class Pairs(NamedTuple):
    """Observed and synthesised images at every grid: G of [B, C, s, s]."""

    observed: list[Tensor]
    synthesised: list[Tensor]
    last_steps: list[StepInfo]  # of the chains

    @staticmethod
    def of(observed: list[Tensor], ends: Iterable[End]) -> "Pairs":
        return Pairs(observed, *map(list, zip(*ends, strict=True)))


def sample_pairs(
    model: MultiGridEnergy,
    pixels: Tensor,
    indices: Tensor,
    update: int,
    method: Method,
    previous: PreviousEnds | None = None,
) -> Pairs:
    """The images of this update, and where the chains that start as the method has it end."""
    return Pairs.of(*begin_pairs(model, pixels, indices, update, method, previous))


def begin_pairs(
    model: MultiGridEnergy,
    pixels: Tensor,
    indices: Tensor,
    update: int,
    method: Method,
    previous: PreviousEnds | None,
) -> tuple[list[Tensor], Iterator[End]]:
    """The observed images of this update, G of [B, C, s, s], and the chains, which walk as they are asked for."""
    observed, start_images, noise, start, fixed = prepare(pixels, indices, update, method, previous)
    chains = sample_grids(
        model,
        start_images,
        noise,
        sizes=method.sizes,
        langevin=method.langevin,
        start=start,
        fixed=fixed,
        executor=method.executor,
    )
    return observed, chains


class Prepared(NamedTuple):
    """All that the chains of an update need."""

    observed: list[Tensor]  # G of [B, C, s, s], with the noise that learning adds
    start_images: Tensor  # [B, C, 1, 1]
    noise: ChainNoise
    start: StartOfGrid
    fixed: list[FixedPixels] | None  # G, of a method with a mask


def prepare(
    pixels: Tensor, indices: Tensor, update: int, method: Method, previous: PreviousEnds | None = None
) -> Prepared:
    """What an update observes, and where and how its chains start."""
    images = observe(pixels, indices, update, method)
    start_images, *levels = pyramid(images, (1, *method.sizes))
    noise = ChainNoise(indices, method.seed, update)
    start = training_start(method.start, noise, observed=levels, previous=previous)
    observed = [add_noise(x, indices, update, grid, method) for grid, x in enumerate(levels)]
    if method.mask is None:
        return Prepared(observed, start_images, noise, start, None)
    size = method.sizes[-1]
    hidden = draw_masks(method.mask, indices, size, seed=method.seed, purpose=Purpose.MASK, update=update)
    known = Known.of(images, hidden, observed)  # fixed with their noise: only hidden pixels may tell the two apart
    return Prepared(observed, known.start_images, noise, known.start(start), known.fixed)


def observe(pixels: Tensor, indices: Tensor, update: int, method: Method) -> Tensor:
    """uint8 to float in [-1, 1], uniform inside each of the 256 levels; mirrored for half of the images."""
    now = {"seed": method.seed, "update": update}
    step = torch.zeros(1, dtype=torch.int64, device=pixels.device)
    levels = uniform(
        random_words(indices, step, pixels[0].numel(), purpose=Purpose.DEQUANTISE, **now)[0, :, : pixels[0].numel()]
    )
    images = (pixels + levels.view(pixels.shape)) / 128.0 - 1.0
    if method.flip:
        mirrored = random_words(indices, step, 1, purpose=Purpose.FLIP, **now)[0, :, 0] & 1
        images = torch.where(mirrored.bool()[:, None, None, None], images.flip(-1), images)
    return images


def add_noise(images: Tensor, indices: Tensor, update: int, grid: int, method: Method) -> Tensor:
    """Smooth the observed images of one grid a little, so that the energy has no cliffs at the data."""
    if (deviation := observed_noise_at(update, method)) == 0:
        return images
    (noise,) = normals(
        indices, tuple(images.shape[1:]), 1, seed=method.seed, purpose=Purpose.OBSERVED, update=update, grid=grid
    )
    return torch.add(images, noise, alpha=deviation)


def observed_noise_at(update: int, method: Method) -> float:
    """The deviation of the noise on the observed images: linear from the first to the final one, then constant."""
    first, last = method.observed_noise, method.final_observed_noise
    if last is None:
        return first
    return first + (last - first) * min(1.0, update / (NOISE_FALLS_OVER * (method.decay_updates or method.num_updates)))


def step_all(learner: Learner, update: int, method: Method, grids: slice = slice(None)) -> Tensor:
    """One step of the optimiser and of the averaged weights of these grids; the norms of their gradients [G]."""
    bounds = method.clip_norm or [math.inf] * len(learner.optimizers)
    norms = [
        step(optimizer, rate * rate_factor(update, method), clip_norm=bound)
        for optimizer, rate, bound in zip(
            learner.optimizers[grids], method.learning_rate[grids], bounds[grids], strict=True
        )
    ]
    average_weights(learner.ema.grids[grids], learner.model.grids[grids], update, method.ema)
    return torch.stack(norms)


def step(optimizer: torch.optim.Adam, rate: float, *, clip_norm: float = math.inf) -> Tensor:
    """One step at the given rate, skipped on the device where a gradient is not finite.

    clip_norm: a gradient of larger norm is scaled down to it. Returns the gradient's norm [] as it was before.
    """
    parameters = optimizer.param_groups[0]["params"]
    norm = get_total_norm([p.grad for p in parameters])
    if math.isfinite(clip_norm):
        clip_grads_with_norm_(parameters, clip_norm, norm)
    # The flag that mixed-precision training uses. All ranks hold the same averaged gradient, so all skip.
    optimizer.found_inf = torch.logical_not(torch.isfinite(norm)).float()
    optimizer.param_groups[0]["lr"] = rate
    optimizer.step()
    return norm


def rate_factor(update: int, method: Method) -> float:
    """Linear warm-up, then a cosine from 1 to final_rate at the end of the decay, where it stays."""
    if update < method.warmup:
        return (update + 1) / method.warmup
    decay_updates = method.decay_updates or method.num_updates
    progress = (update + 1 - method.warmup) / max(1, decay_updates - method.warmup)
    return method.final_rate + (1.0 - method.final_rate) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


def average_weights(averages: nn.Module, model: nn.Module, update: int, decay: float) -> None:
    """Exponential moving average of weights and buffers, over a shorter past while there is only a short one."""
    decay = min(decay, (1 + update) / (10 + update))
    with torch.no_grad():
        torch._foreach_lerp_(list(averages.parameters()), list(model.parameters()), 1.0 - decay)
        for averaged, buffer in zip(averages.buffers(), model.buffers(), strict=True):
            averaged.copy_(buffer)


def means_of(energies: Tensor, pairs: Pairs) -> Tensor:
    """The metrics that are means over images: [G, NUM_MEANS], all on the device."""
    drift = torch.stack([info.drift.square().mean() for info in pairs.last_steps])
    saturation = torch.stack([(x.abs() >= 1.0).float().mean() for x in pairs.synthesised])
    return torch.stack([energies[0], energies[1], drift, saturation], dim=-1)


def with_norms(means: Tensor, norms: Tensor) -> Tensor:
    """All metrics [G, len(METRICS)]; a gradient that is not finite was skipped."""
    return torch.cat([means, norms[:, None], (~torch.isfinite(norms)).float()[:, None]], dim=-1)
