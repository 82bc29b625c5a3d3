"""The whole algorithm on one page: minimal contrastive divergence at every grid at once.

For every grid, separately and simultaneously (Gao et al. 2017, section 3.3):

    gap_s = mean_i U_s(observed_i) - mean_i U_s(synthesised_i)
    weights_s <- Adam(weights_s, grad gap_s)                synthesised images are constants

With a mask, the chains change hidden pixels only and keep the others as in the observed image: this learns a model of
the hidden pixels given the rest, which generalises Besag's pseudo-likelihood (the same paper, on inpainting).
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
from distmgcd.core.parallel.overlap import StartAverage, average_during_chains, parts_of
from distmgcd.core.synthesis import ChainNoise, End, PreviousEnds, StartKind, StartOfGrid, sample_grids, training_start

# For every grid at every update. All but the last two are means over images, so their mean over workers, weighted by
# numbers of images, is that of the whole batch; this is why the drift is squared.
METRICS = ("energy_observed", "energy_synthesised", "drift_squared", "saturation", "gradient_norm", "skipped")
NUM_MEANS = 4

NOISE_FALLS_OVER = 0.3  # of all updates: coarse structure is learned first, from data that are easy to sample


@dataclass(frozen=True)
class Method:
    """The settings of the method. A sequence holds one per grid, coarse to fine."""

    sizes: Sequence[int]
    langevin: Sequence[Langevin]
    seed: int
    flip: bool  # mirror half of the observed images
    observed_noise: float  # deviation of the Gaussian noise on the observed images at the first update
    num_updates: int
    warmup: int  # updates over which the learning rate rises from 0
    learning_rate: Sequence[float]
    final_rate: float  # learning rate at the end of its decay, as a fraction of the full one
    ema: float  # decay of the average of the weights
    decay_updates: int | None = None  # after which the learning rate stays at final_rate; None: num_updates
    final_observed_noise: float | None = None  # the deviation after NOISE_FALLS_OVER; None: it is constant
    clip_norm: Sequence[float] | None = None  # largest norm of a gradient; larger ones are scaled down. None: no bound
    start: StartKind = "multigrid"
    mask: MaskKind | None = None  # hide a part of every image, another one at each update; chains change only that part
    executor: ChainExecutor = PLAIN  # how chains are executed; all executors run the same chain


class Learner:
    """The state that learning changes: the model, its wrapped form, one optimiser per grid, averaged weights."""

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
        self.start_average = start_average  # averages them instead, part by part, during the chains of finer grids
        self.parts = parts_of(model) if start_average else []
        self.ema = deepcopy(model).requires_grad_(False).eval()
        self.optimizers = [torch.optim.Adam(grid.parameters(), betas=betas, fused=True) for grid in model.grids]


class Learned(NamedTuple):
    """What an update gives, apart from the new weights."""

    metrics: Tensor  # [G, len(METRICS)], this worker's part: their mean over workers is that of the whole batch
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

    pixels: uint8 [B, C, S, S]; indices: int64 [B], the index of each image in the data set. weight: B divided by the
    mean share of a worker, so that the mean over workers of their gradients is that of the whole batch. previous: where
    persistent chains continue.
    """
    observed, chains = begin_pairs(learner.model, pixels, indices, update, method, previous)
    if learner.start_average is None:
        pairs = Pairs.of(observed, chains)
        energies = learner.wrapped(pairs.observed, pairs.synthesised)  # [2, G]
        gaps = energies[0] - energies[1]
        for optimizer in learner.optimizers:
            optimizer.zero_grad(set_to_none=True)
        gap = weight * gaps.sum()
        gap.backward()  # grids share no parameter, so the gradient of the sum is each grid's own
    else:  # the same gradients, each averaged over workers as soon as it is computed
        ends, energies = average_during_chains(learner.parts, observed, chains, learner.start_average, weight=weight)
        pairs = Pairs.of(observed, ends)
    norms = step_all(learner, update, method)
    return Learned(with_norms(weight * means_of(energies.detach(), pairs), norms), pairs.synthesised)


class Pairs(NamedTuple):
    """Observed images and the ends of chains, at every grid: G of [B, C, s, s]."""

    observed: list[Tensor]
    synthesised: list[Tensor]
    last_steps: list[StepInfo]  # of the chains

    @staticmethod
    def of(observed: list[Tensor], ends: Iterable[End]) -> "Pairs":
        """ends: of the chains, one per grid, as synthesis.sample_grids yields them."""
        return Pairs(observed, *map(list, zip(*ends, strict=True)))


def sample_pairs(
    model: MultiGridEnergy,
    pixels: Tensor,
    indices: Tensor,
    update: int,
    method: Method,
    previous: PreviousEnds | None = None,
) -> Pairs:
    """The observed images of this update, and the ends of its chains; arguments as of learn."""
    return Pairs.of(*begin_pairs(model, pixels, indices, update, method, previous))


def begin_pairs(
    model: MultiGridEnergy,
    pixels: Tensor,
    indices: Tensor,
    update: int,
    method: Method,
    previous: PreviousEnds | None,
) -> tuple[list[Tensor], Iterator[End]]:
    """The observed images of this update, G of [B, C, s, s], and its chains, which run as their ends are asked for."""
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
    """Everything that the chains of an update need."""

    observed: list[Tensor]  # G of [B, C, s, s], with noise added (Method.observed_noise)
    start_images: Tensor  # [B, C, 1, 1], the mean colours
    noise: ChainNoise
    start: StartOfGrid
    fixed: list[FixedPixels] | None  # G, for a method with a mask


def prepare(
    pixels: Tensor, indices: Tensor, update: int, method: Method, previous: PreviousEnds | None = None
) -> Prepared:
    """The observed images of an update, and the starts and the noise of its chains; arguments as of learn."""
    images = observe(pixels, indices, update, method)
    start_images, *levels = pyramid(images, (1, *method.sizes))
    noise = ChainNoise(indices, method.seed, update)
    start = training_start(method.start, noise, observed=levels, previous=previous)
    observed = [add_noise(x, indices, update, grid, method) for grid, x in enumerate(levels)]
    if method.mask is None:
        return Prepared(observed, start_images, noise, start, None)
    size = method.sizes[-1]
    hidden = draw_masks(method.mask, indices, size, seed=method.seed, purpose=Purpose.MASK, update=update)
    # Pixels are fixed with their noise: observed and synthesised images may differ in hidden pixels only.
    known = Known.of(images, hidden, observed)
    return Prepared(observed, known.start_images, noise, known.start(start), known.fixed)


def observe(pixels: Tensor, indices: Tensor, update: int, method: Method) -> Tensor:
    """uint8 [B, C, S, S] to float in [-1, 1], uniform inside each of the 256 levels; half of the images are mirrored.

    Random in a way that depends on the seed, the update and the index of the image only.
    """
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
    """The observed images of one grid [B, C, s, s] with Gaussian noise, so that the energy is smooth at the data."""
    if (deviation := observed_noise_at(update, method)) == 0:
        return images
    (noise,) = normals(
        indices, tuple(images.shape[1:]), 1, seed=method.seed, purpose=Purpose.OBSERVED, update=update, grid=grid
    )
    return torch.add(images, noise, alpha=deviation)


def observed_noise_at(update: int, method: Method) -> float:
    """The deviation of the noise on the observed images: linear from the first to the final value, then constant."""
    first, last = method.observed_noise, method.final_observed_noise
    if last is None:
        return first
    return first + (last - first) * min(1.0, update / (NOISE_FALLS_OVER * (method.decay_updates or method.num_updates)))


def step_all(learner: Learner, update: int, method: Method) -> Tensor:
    """One step of all optimisers and of the averaged weights. Returns the norms of the gradients [G]."""
    bounds = method.clip_norm or [math.inf] * len(learner.optimizers)
    norms = [
        step(optimizer, rate * rate_factor(update, method), clip_norm=bound)
        for optimizer, rate, bound in zip(learner.optimizers, method.learning_rate, bounds, strict=True)
    ]
    average_weights(learner.ema, learner.model, update, method.ema)
    return torch.stack(norms)


def step(optimizer: torch.optim.Adam, rate: float, *, clip_norm: float = math.inf) -> Tensor:
    """One step at the given rate; none if a gradient is not finite, which is decided on the device.

    clip_norm: a gradient of larger norm is scaled down to it. Returns the norm [] of the gradient before that.
    """
    parameters = optimizer.param_groups[0]["params"]
    norm = get_total_norm([p.grad for p in parameters])
    if math.isfinite(clip_norm):
        clip_grads_with_norm_(parameters, clip_norm, norm)
    # The flag that mixed-precision training uses. All ranks hold the same averaged gradient, so all skip.
    optimizer.found_inf = torch.logical_not(torch.isfinite(norm)).float()  # pyright: ignore[reportAttributeAccessIssue]
    optimizer.param_groups[0]["lr"] = rate
    optimizer.step()
    return norm


def rate_factor(update: int, method: Method) -> float:
    """The factor on the learning rate: linear warm-up, then a cosine from 1 to final_rate, constant after the decay."""
    if update < method.warmup:
        return (update + 1) / method.warmup
    decay_updates = method.decay_updates or method.num_updates
    progress = (update + 1 - method.warmup) / max(1, decay_updates - method.warmup)
    return method.final_rate + (1.0 - method.final_rate) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


def average_weights(averages: nn.Module, model: nn.Module, update: int, decay: float) -> None:
    """Exponential moving average of weights; buffers are copied. The decay is smaller in the first updates."""
    decay = min(decay, (1 + update) / (10 + update))
    with torch.no_grad():
        torch._foreach_lerp_(  # pyright: ignore[reportPrivateImportUsage]
            list(averages.parameters()), list(model.parameters()), 1.0 - decay
        )
        for averaged, buffer in zip(averages.buffers(), model.buffers(), strict=True):
            averaged.copy_(buffer)


def means_of(energies: Tensor, pairs: Pairs) -> Tensor:
    """The metrics that are means over images: [G, NUM_MEANS]. energies: [2, G], as MultiGridEnergy.forward."""
    drift = torch.stack([info.drift.square().mean() for info in pairs.last_steps])
    saturation = torch.stack([(x.abs() >= 1.0).float().mean() for x in pairs.synthesised])
    return torch.stack([energies[0], energies[1], drift, saturation], dim=-1)


def with_norms(means: Tensor, norms: Tensor) -> Tensor:
    """All metrics [G, len(METRICS)] from the means [G, NUM_MEANS] and the norms [G], not finite if skipped."""
    return torch.cat([means, norms[:, None], (~torch.isfinite(norms)).float()[:, None]], dim=-1)
