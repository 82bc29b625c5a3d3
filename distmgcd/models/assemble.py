"""What a config says, as networks, settings and images of the method; core itself knows no config."""

from functools import cache, partial
from typing import Any

import torch

from distmgcd.config import Config
from distmgcd.core.energy import ConvEnergy, MultiGridEnergy
from distmgcd.core.execution.executors import ChainExecutor, Speed, executor_of
from distmgcd.core.langevin import Langevin
from distmgcd.core.learning import Learner, Method
from distmgcd.core.networks import NETWORKS, ConvLayer
from distmgcd.core.parallel.blocks import Blocks
from distmgcd.core.persistent import Chains, Renewal
from distmgcd.data import ImageSet, open_images, shard
from distmgcd.runs.checkpoint import RateScale, frozen_grids
from distmgcd.workers.collectives import Worker


def make_model(config: Config) -> MultiGridEnergy:
    """The untrained model, on the CPU: its weights are a function of the seed."""
    sizes, network = config.grids.sizes, config.network
    make_network = partial(
        NETWORKS["residual" if network.kind == "residual" else "convnet"],
        activation=network.activation,
        norm=network.norm,
        head=network.head,
    )
    grids = zip(sizes, network.layers(sizes), config.per_grid("langevin.reference_sigma"), strict=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return MultiGridEnergy(
            [
                ConvEnergy(
                    make_network(size, config.data.channels, [ConvLayer(*layer) for layer in layers]),
                    reference_sigma=sigma,
                )
                for size, layers, sigma in grids
            ]
        )


def make_langevin(config: Config) -> list[Langevin]:
    """How the chains of training move at every grid, coarse to fine."""
    keys = ("num_steps", "step_size", "temperature", "clamp")
    settings = [Langevin(*values) for values in zip(*(config.per_grid(f"langevin.{key}") for key in keys), strict=True)]
    total, done = sum(of_grid.num_steps for of_grid in settings), 0
    for grid, schedule in enumerate(config.per_grid("langevin.noise")):
        num_steps = settings[grid].num_steps
        if schedule == "falling":
            left = [1.0 - step / max(1, total - 1) for step in (done, done + num_steps - 1)]
            settings[grid] = settings[grid]._replace(cooling=(left[0], left[1]))
        done += num_steps
    return settings


def make_sampling_langevin(config: Config) -> list[Langevin]:
    """How the chains of samples move: as those of training, the finest grid's noise times langevin.sample_noise."""
    *coarse, finest = make_langevin(config)
    return [*coarse, finest._replace(temperature=finest.temperature * config.langevin.sample_noise**2)]


def make_executor(config: Config) -> ChainExecutor:
    """How chains are executed; the same for the same settings, so that what it traced or captured serves again."""
    return _executor(speed_of(config))


def speed_of(config: Config) -> Speed:
    """How chains are to be executed; auto is left to the device (Speed.on)."""
    return Speed(**config.speed.model_dump(exclude={"overlap"}))


_executor = cache(executor_of)


def make_method(config: Config, *, rate_scale: RateScale = 1.0) -> Method:
    """rate_scale multiplies the learning rate of every grid, or of each grid its own: what roll-backs have left."""
    learning = config.learning
    scales = rate_scale if isinstance(rate_scale, tuple) else (rate_scale,) * config.num_grids
    return Method(
        sizes=config.grids.sizes,
        langevin=make_langevin(config),
        seed=config.seed,
        flip=config.data.flip,
        observed_noise=config.data.noise,
        final_observed_noise=config.data.final_noise,
        num_updates=learning.num_updates,
        warmup=learning.warmup_updates,
        learning_rate=[
            rate * scale for rate, scale in zip(config.per_grid("learning.learning_rate"), scales, strict=True)
        ],
        final_rate=learning.final_rate,
        ema=learning.ema,
        clip_norm=config.per_grid("learning.clip_norm"),
        decay_updates=learning.rate_updates,
        start=config.start.kind,
        mask=learning.mask,
        executor=make_executor(config),
    )


def make_learner(config: Config, worker: Worker) -> Learner:
    """The untrained model on the worker's device, and how its gradients are averaged over all workers."""
    model, betas = make_model(config).to(worker.device), config.learning.betas
    if worker.world_size > 1 and overlaps(config):
        worker.share(model)
        return Learner(model, model, betas=betas, start_average=worker.start_average)
    if worker.world_size > 1 and config.learning.block_size:  # DDP's buckets would serve nobody: blocks have their tree
        worker.share(model)
        return Learner(model, model, betas=betas)
    return Learner(model, worker.wrap(model), betas=betas)


def freeze(learner: Learner, rate_scale: RateScale) -> None:
    """Grids whose rate is 0 keep their averaged weights for good."""
    for grid in frozen_grids(rate_scale):
        learner.model.grids[grid].load_state_dict(learner.ema.grids[grid].state_dict())


def overlaps(config: Config) -> bool:
    """Whether several workers average the gradient of a coarse grid while the finer grid samples."""
    return config.speed.overlap and config.learning.block_size is None


def make_blocks(config: Config, worker: Worker) -> Blocks | None:
    """How this worker shares the blocks of a batch, if the config asks for blocks."""
    if (size := config.learning.block_size) is None:
        return None
    slices = (
        shard(config.learning.global_batch_size, rank, worker.world_size, block=size)
        for rank in range(worker.world_size)
    )
    shares = [(share.start // size, share.stop // size) for share in slices]
    return Blocks(size, shares, worker.rank, worker.gather)


def make_chains(config: Config, worker: Worker, *, num_images: int) -> Chains | None:
    """Persistent chains, none of them run yet, if the config asks for them."""
    if config.start.kind != "persistent":
        return None
    return Chains(
        num_images,
        config.data.channels,
        config.grids.sizes,
        rank=worker.rank,
        world_size=worker.world_size,
        gather=worker.gather,
        renewal=Renewal(config.seed, config.start.renewed, config.start.fresh_updates),
        device=worker.device,
    )


def open_training_images(config: Config) -> ImageSet:
    """The images that are learned from, as the config wants them. Raises UserError."""
    without = open_held_out_images(config).hashes if config.data.leave_out_copies else None
    return _open(config, config.data.split, part=(0.0, 1.0 - config.data.validation), without=without)


def open_held_out_images(config: Config) -> ImageSet:
    """The images that samples are compared with: none of them is learned from. Raises UserError."""
    if config.data.validation:
        return _open(config, config.data.split, part=(1.0 - config.data.validation, 1.0))
    return _open(config, config.data.held_out, setting="data.held_out")


def _open(config: Config, split: str, part: tuple[float, float] = (0.0, 1.0), **how: Any) -> ImageSet:
    data = config.data
    return open_images(
        data.path,
        image_size=config.image_size,
        channels=data.channels,
        split=split,
        part=part,
        pad=data.pad,
        background=data.background,
        max_corrupt=data.max_corrupt,
        **how,
    )
