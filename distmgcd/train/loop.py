"""The training loop. It asks a small Worker, never a framework; one rank is a special case of many."""

import io
import json
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from distmgcd.config import Config
from distmgcd.core.blocks import Blocks, learn_in_blocks
from distmgcd.core.energy import MultiGridEnergy
from distmgcd.core.learning import Learner, Method, learn
from distmgcd.core.synthesis import StartDistribution
from distmgcd.data import ImageSet, batch_indices, shard
from distmgcd.evaluate.sheet import save_pyramid_sheet, save_sheet
from distmgcd.train import checkpoint
from distmgcd.train.assemble import (
    make_blocks,
    make_learner,
    make_method,
    make_model,
    open_held_out_images,
    open_training_images,
)
from distmgcd.train.assess import (
    Distances,
    distances,
    draws_of_data,
    evaluation_seeds,
    fresh_samples,
    protocol,
    start_distribution,
)
from distmgcd.train.checkpoint import Progress
from distmgcd.train.log import Log, make_record, open_log
from distmgcd.train.run import Run
from distmgcd.train.saving import Saver, not_saved, reason_of
from distmgcd.train.watch import Diverged, check_health
from distmgcd.train.worker import Worker

SHEET_SIZE = 64
_PYRAMID_COLUMNS = 12


@dataclass
class Training:
    """A run under way on one worker."""

    config: Config
    worker: Worker
    run: Run
    images: ImageSet
    held_out: ImageSet
    starts: StartDistribution
    learner: Learner
    progress: Progress
    method: Method
    blocks: Blocks | None
    log: Log | None  # rank 0 only
    saver: Saver | None = None  # rank 0 only
    log_refused: bool = False  # the user was told that the disk takes no more of the log
    # The metrics [G, M] of every update since the last record, on the device.
    pending: list[Tensor] = field(default_factory=list)
    pending_since: float = 0.0


def train(config: Config, worker: Worker, run: Run) -> dict[str, Any]:
    """Train to the end, from the newest good checkpoint if there is one; returns what result.json holds.

    All workers call it. Raises UserError for a mistake in the config or data, and Diverged when going back
    did not help.
    """
    training = begin(config, worker, run)
    checkpoints, logs, evaluations = config.checkpoint.every, config.log.every, config.evaluate.every
    last = config.learning.num_updates
    try:
        while training.progress.update < last:
            advance(training)
            done = training.progress.update
            try:
                if done % logs == 0 or done % checkpoints == 0 or done == last:
                    flush(training)  # before a checkpoint, so that only a healthy state is saved
            except Diverged as event:
                go_back(training, event)
                continue
            evaluated = evaluations and done % evaluations == 0 and done < last
            swd = evaluate(training) if evaluated else None
            if done % checkpoints == 0 or done == last:
                save(training, swd)
            if swd:
                worker.evaluated(done, swd.mean)
            if not training.pending:
                training.pending_since = time.perf_counter()  # what was just done is no part of an update
        return finish(training)
    finally:
        if training.log:
            leave(training)


def begin(config: Config, worker: Worker, run: Run) -> Training:
    """The state of a run at its newest good checkpoint, or at its start."""
    images, held_out = open_training_images(config), open_held_out_images(config)
    learner, progress, events = make_learner(config, worker), Progress(), []
    if found := checkpoint.to_go_on_from(run.store, warn=events.append):
        checkpoint.restore(learner, found)
        progress, starts = found.progress, found.starts()
        events.append(f"Going on from the checkpoint of update {progress.update}.")
    else:
        starts = start_distribution(images)
    training = Training(
        config=config,
        worker=worker,
        run=run,
        images=images,
        held_out=held_out,
        starts=starts,
        learner=learner,
        progress=progress,
        method=make_method(config, rate_scale=progress.rate_scale),
        blocks=make_blocks(config, worker),
        log=open_log(run, after_update=progress.update) if worker.rank == 0 else None,
        pending_since=time.perf_counter(),
    )
    if training.log:
        training.saver = Saver(run.store, config.checkpoint, training.log, partial(tell, training))
    for event in events if training.log else ():
        tell(training, {"event": event, "rate_scale": progress.rate_scale})
    return training


def advance(training: Training) -> None:
    """One update, without waiting for the device."""
    update, batch_size = training.progress.update, training.config.learning.global_batch_size
    pixels, indices = share_of_batch(training, update)
    if training.blocks:
        learned = learn_in_blocks(training.learner, pixels, indices, update, training.method, blocks=training.blocks)
    else:
        weight = len(pixels) * training.worker.world_size / batch_size
        learned = learn(training.learner, pixels, indices, update, training.method, weight=weight)
    training.pending.append(learned.metrics)
    training.progress = replace(training.progress, update=update + 1)


def share_of_batch(training: Training, update: int) -> tuple[Tensor, Tensor]:
    """This worker's pixels, uint8 [b, C, S, S], and their indices, int64 [b]; update counts from 0."""
    worker, config = training.worker, training.config
    batch = batch_indices(
        update, num_images=len(training.images), global_batch_size=config.learning.global_batch_size, seed=config.seed
    )
    mine = batch[shard(len(batch), worker.rank, worker.world_size, block=config.learning.block_size or 1)]
    pixels = torch.from_numpy(training.images.images[mine]).to(worker.device, non_blocking=True)
    return pixels, torch.from_numpy(mine.copy()).to(worker.device, non_blocking=True)


def flush(training: Training) -> None:
    """Read the metrics since the last record, from all workers; log them and check their health. Raises Diverged."""
    if not training.pending:
        return
    config, done, num_pending = training.config, training.progress.update, len(training.pending)
    metrics = training.worker.mean(torch.stack(training.pending)).cpu()  # the only place that waits for the device
    training.pending.clear()
    now = time.perf_counter()
    seconds, training.pending_since = now - training.pending_since, now
    training.progress = replace(training.progress, seconds=training.progress.seconds + seconds)
    if training.log:
        record = make_record(
            metrics,
            num_updates=config.learning.num_updates,
            images_per_s=num_pending * config.learning.global_batch_size / seconds,
            seconds_left=(config.learning.num_updates - done) * training.progress.seconds / done,
            sizes=config.grids.sizes,
            langevin=training.method.langevin,
        )
        tell(training, record)
        training.saver.settle(wait=False)
    check_health(metrics, first_update=done - num_pending + 1, sizes=config.grids.sizes, watch=config.watch)


def go_back(training: Training, event: Diverged) -> None:
    """Return to the newest good checkpoint with a smaller learning rate. Raises Diverged after too many times."""
    config, watch = training.config, training.config.watch
    num_retries = training.progress.num_retries + 1
    rate_scale = training.progress.rate_scale * watch.rate_after_retry
    if num_retries > watch.max_retries:
        end = Diverged(
            f"{event} It has done so {num_retries} times, the last with learning rates scaled by "
            f"{training.progress.rate_scale:g}; lower langevin.step_size or learning.learning_rate, or raise "
            "data.noise."
        )
        if training.log:
            tell(training, {"diverged": str(end)})
        raise end
    if training.saver:
        training.saver.settle()
    training.worker.mean(torch.zeros(1, device=training.worker.device))  # all wait for that: they read what it wrote
    found = checkpoint.to_go_on_from(training.run.store)
    if found:
        checkpoint.restore(training.learner, found)
    else:
        training.learner = make_learner(config, training.worker)
    seconds = training.progress.seconds
    training.progress = replace(
        found.progress if found else Progress(), num_retries=num_retries, rate_scale=rate_scale, seconds=seconds
    )
    training.method = make_method(config, rate_scale=rate_scale)
    if training.log:
        where = f"the checkpoint of update {found.progress.update}" if found else "the start"
        text = f"{event} Going back to {where} with the learning rates scaled by {rate_scale:g}."
        tell(training, {"event": text, "rate_scale": rate_scale})


def tell(training: Training, record: dict[str, Any]) -> None:
    """Into the log and before the user's eyes; rank 0 only."""
    record = {"update": training.progress.update, **record}
    refused = training.log.write(record)
    training.worker.show(record)
    if refused and not training.log_refused:
        training.log_refused = True
        tell(training, {"event": f"The log cannot be written ({reason_of(refused)}); its records wait in memory."})


def save(training: Training, found: Distances | None = None) -> None:
    """Write a checkpoint, scored if there was an evaluation; rank 0 does, the others hold the same state."""
    if training.saver:
        training.saver.save(training.learner, training.starts, training.progress, swd=found and found.mean)


def leave(training: Training) -> None:
    """However a run ends: see that what is being written is whole, and that the log is where it belongs."""
    training.saver.settle()
    with suppress(OSError):
        training.log.copy_to(training.run.store)
    training.run.drop_log_folder(training.log.folder)


def evaluate(training: Training) -> Distances | None:
    """Distances of fresh samples to held-out images, on rank 0; a sheet of them in the log."""
    draws = sample(training, training.learner.ema)
    if training.worker.rank != 0:
        return None
    found = distances([levels[-1] for levels in draws], training.held_out, training.config)
    tell(training, {"swd": found.mean, "swd_spread": found.spread})
    try:
        training.log.write_picture(write_sheets(training.run, draws[0]), training.progress.update)
    except OSError as error:
        tell(training, {"event": f"samples.png and pyramid.png could not be written ({reason_of(error)})."})
    return found


def sample(training: Training, model: MultiGridEnergy) -> list[list[Tensor]]:
    """Every draw of fresh samples, at every grid."""
    config = training.config
    return [
        fresh_samples(model, training.starts, config.evaluate.num_samples, config, training.worker, seed=seed)
        for seed in evaluation_seeds(config)
    ]


def write_sheets(run: Run, levels: list[Tensor]) -> np.ndarray:
    """samples.png, and the same samples at every grid in pyramid.png; returns the first as uint8 [H, W, 3]."""
    sheet, pyramid = io.BytesIO(), io.BytesIO()
    save_sheet(levels[-1][:SHEET_SIZE], sheet)
    save_pyramid_sheet([level[:_PYRAMID_COLUMNS] for level in levels], pyramid)
    run.store.write("samples.png", sheet.getvalue())
    run.store.write("pyramid.png", pyramid.getvalue())
    return np.asarray(Image.open(sheet).convert("RGB"))


def finish(training: Training) -> dict[str, Any]:
    """The last evaluation, beside the untrained model and the data against itself; writes and returns result.json."""
    config, worker = training.config, training.worker
    found = evaluate(training)
    save(training, found)  # again, with its score: it was saved before, for an evaluation takes a while
    untrained = sample(training, make_model(config).to(worker.device))
    if worker.rank != 0:
        return {}
    all_distances = {
        "samples": found,
        "untrained": distances([levels[-1] for levels in untrained], training.held_out, config),
        "data": distances(draws_of_data(training.images, config), training.held_out, config),
    }
    result = {
        "update": training.progress.update,
        "seconds": training.progress.seconds,
        "num_retries": training.progress.num_retries,
        "swd": {name: value.mean for name, value in all_distances.items()},
        "swd_spread": {name: value.spread for name, value in all_distances.items()},
        "protocol": protocol(config, training.images, training.held_out),
    }
    conclude(training, result)
    return result


def conclude(training: Training, result: dict[str, Any]) -> None:
    """Write result.json, after the last checkpoint: a run that has it is finished. Raises NotSaved."""
    store = training.run.store
    if error := training.saver.settle():
        raise not_saved("its last checkpoint", error, store) from error
    try:
        training.log.copy_to(store)
        store.write("result.json", json.dumps(result, indent=1).encode())
    except OSError as error:
        raise not_saved("its result", error, store) from error
