"""How fast whole updates are, beside the same as a textbook would write it, and what learning.block_size costs."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distmgcd.bench import timing
from distmgcd.bench.chains import textbook_chain
from distmgcd.bench.machine import eager_precision
from distmgcd.config import Config
from distmgcd.core.energy import MultiGridEnergy, frozen
from distmgcd.core.execution.devices import fp32_products
from distmgcd.core.grids import expand, pyramid
from distmgcd.core.langevin import chain_end
from distmgcd.core.learning import Learner, Method, learn
from distmgcd.core.parallel.blocks import learn_in_blocks
from distmgcd.core.synthesis import ChainNoise, synthesise
from distmgcd.data import batch_indices
from distmgcd.errors import UserError
from distmgcd.models.assemble import make_blocks, make_learner, make_method, open_training_images
from distmgcd.workers.collectives import LocalWorker

_LONGEST_FOR_BLOCKS = 5.0  # seconds of an update; blocks take six times as many updates


def training_pixels(config: Config) -> tuple[np.ndarray, str | None]:
    """uint8 [N, C, S, S], and a sentence where they are made up, because the config's own cannot be read.

    How fast an update is does not depend on what the images show, so a machine without them can be measured, too.
    """
    try:
        return open_training_images(config).images, None
    except UserError as error:
        shape = (config.learning.global_batch_size, config.data.channels, config.image_size, config.image_size)
        made_up = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        return made_up, f"Pixels are random numbers, which does not change the speed. ({error})"


class Batch:
    """The images of one update, and where they stand in the data set."""

    def __init__(self, config: Config, images: np.ndarray, device: torch.device, size: int | None = None):
        self._images, self._device = images, device
        self.rows = batch_indices(
            0, num_images=len(images), global_batch_size=config.learning.global_batch_size, seed=config.seed
        )[:size]
        self.indices = torch.from_numpy(self.rows.copy()).to(device)  # int64 [B]
        self.pixels = self.read()  # uint8 [B, C, S, S]

    def read(self) -> Tensor:
        return torch.from_numpy(self._images[self.rows]).to(self._device, non_blocking=True)

    def __len__(self) -> int:
        return len(self.rows)


def bench_updates(config: Config, images: np.ndarray, device: torch.device) -> dict[str, Any]:
    """Images/s of whole updates, the share of their time that sampling takes, and the textbook's update."""
    learner, method = make_learner(config, LocalWorker(device)), make_method(config)
    batch = Batch(config, images, device)
    start_images = torch.zeros(len(batch), config.data.channels, 1, 1, device=device)

    def sampling(model: MultiGridEnergy = learner.model) -> None:
        noise = ChainNoise(batch.indices, config.seed)
        synthesise(model, start_images, noise, sizes=method.sizes, langevin=method.langevin, executor=method.executor)

    textbook = textbook_update(make_learner(config, LocalWorker(device)), batch.pixels, method)

    def textbook_in_fp32() -> None:
        with fp32_products(tf32=False):
            textbook()

    tasks: dict[str, timing.Task] = {
        "learn": lambda: learn(learner, batch.pixels, batch.indices, 0, method),
        "sampling": sampling,
        "textbook": textbook,
    }
    if eager_precision(device) != "fp32":
        tasks["textbook, fp32"] = textbook_in_fp32
    times = timing.in_turn(tasks, device)
    in_fp32 = times.get("textbook, fp32", times["textbook"])
    return {
        "batch": len(batch),
        "num_rounds": len(times["learn"]),
        "images_per_s": timing.rates(len(batch), times["learn"]),
        "share_of_sampling": timing.times_as_fast(times["learn"], times["sampling"]),
        "textbook_images_per_s": timing.rates(len(batch), times["textbook"]),
        "of_textbook": timing.times_as_fast(times["learn"], times["textbook"]),
        "of_fp32_textbook": timing.times_as_fast(times["learn"], in_fp32),
    }


def textbook_update(learner: Learner, pixels: Tensor, method: Method) -> Callable[[], None]:
    """All grids' chains in eager torch on frozen weights, one loss, Adam: no metrics, no averaged weights."""

    def update() -> None:
        x, *observed = pyramid(pixels / 127.5 - 1.0, (1, *method.sizes))
        loss = 0.0
        for energy, images, settings, optimizer in zip(
            learner.model.grids, observed, method.langevin, learner.optimizers, strict=True
        ):
            with frozen(energy):
                x = chain_end(textbook_chain(energy, expand(x, images.shape[-1]), settings), settings)
            loss = loss + energy(images).mean() - energy(x).mean()
            optimizer.zero_grad()
        loss.backward()
        for optimizer in learner.optimizers:
            optimizer.step()

    return update


def bench_blocks(config: Config, images: np.ndarray, device: torch.device) -> tuple[dict[str, float], list[str]]:
    """{block size: rate of updates in such blocks over the rate without}, and a sentence where it is left out."""
    worker, method, batch = LocalWorker(device), make_method(config), Batch(config, images, device)
    learner = make_learner(config, worker)
    tasks: dict[str, timing.Task] = {"whole": lambda: learn(learner, batch.pixels, batch.indices, 0, method)}
    if (once := timing.seconds(tasks["whole"], device)) > _LONGEST_FOR_BLOCKS:
        return {}, [f"What learning.block_size costs was left out: an update takes {once:.0f} s here."]
    for size in (len(batch) // 2, len(batch) // 4, len(batch) // 8):
        if size and len(batch) % size == 0:
            learning = config.learning.model_copy(update={"block_size": size})
            blocks = make_blocks(config.model_copy(update={"learning": learning}), worker)
            tasks[str(size)] = lambda blocks=blocks: learn_in_blocks(
                learner, batch.pixels, batch.indices, 0, method, blocks=blocks
            )
    times = timing.in_turn(tasks, device)
    return {name: timing.times_as_fast(times[name], times["whole"]) for name in tasks if name != "whole"}, []
