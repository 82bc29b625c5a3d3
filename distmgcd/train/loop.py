"""The training loop. It asks a small Worker, never a framework; one rank is a special case of many."""

import io
import json
import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from distmgcd.config import Config
from distmgcd.core.learning import Learner, Method, learn
from distmgcd.core.synthesis import StartDistribution
from distmgcd.data import ImageSet, batch_indices, shard
from distmgcd.evaluate.sheet import save_pyramid_sheet, save_sheet
from distmgcd.train import checkpoint
from distmgcd.train.assemble import make_learner, make_method, make_model, open_split
from distmgcd.train.assess import as_floats, distances, fresh_samples, start_distribution
from distmgcd.train.checkpoint import Progress
from distmgcd.train.log import Log, going_on, make_record
from distmgcd.train.run import Run
from distmgcd.train.stop import Request, Stopped
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
    log: Log | None  # rank 0 only
    # The metrics [G, M] of every update since the last record, on the device.
    pending: list[Tensor] = field(default_factory=list)
    pending_since: float = 0.0
    saved: Progress | None = None  # the state that a restart would go on from


def train(config: Config, worker: Worker, run: Run) -> dict[str, Any]:
    """Train to the end, from the newest good checkpoint if there is one; returns what result.json holds.

    All workers call it. Raises UserError for a mistake in the config or data, Diverged when going back did not
    help, and Stopped where the worker was asked to leave.
    """
    training = begin(config, worker, run)
    checkpoints, logs, evaluations = config.checkpoint.every, config.log.every, config.evaluate.every
    last = config.learning.num_updates
    try:
        while training.progress.update < last:
            done, request = training.progress.update, worker.before_update(training.progress.update)
            try:
                if request:
                    heed(training, request)
                advance(training)
                done += 1
                if done % logs == 0 or done % checkpoints == 0 or done == last:
                    flush(training)  # before a checkpoint, so that only a healthy state is saved
            except Diverged as event:
                go_back(training, event)
                continue
            if done % checkpoints == 0 or done == last:
                save(training)
            if evaluations and done % evaluations == 0 and done < last:
                evaluate(training)
            if not training.pending:
                training.pending_since = time.perf_counter()  # what was just done is no part of an update
        return finish(training)
    finally:
        if training.log:
            training.log.close()


def begin(config: Config, worker: Worker, run: Run) -> Training:
    """The state of a run at its newest good checkpoint, or at its start."""
    images, held_out = open_split(config, config.data.split), open_split(config, config.data.held_out)
    learner, progress, events = make_learner(config, worker), Progress(), []
    if found := checkpoint.newest(run.store, warn=events.append):
        checkpoint.restore(learner, found)
        progress, starts = found.progress, found.starts()
    else:
        starts = start_distribution(images)
    log = Log(run.log_folder(), after_update=progress.update) if worker.rank == 0 else None
    if log and (found or log.reached):
        events.append(going_on(progress.update, log, num_workers=worker.world_size))
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
        log=log,
        pending_since=time.perf_counter(),
        saved=progress,
    )
    for event in events if training.log else ():
        tell(training, {"event": event})
    return training


def advance(training: Training) -> None:
    """One update, without waiting for the device."""
    update, worker, config = training.progress.update, training.worker, training.config
    batch = batch_indices(
        update, num_images=len(training.images), global_batch_size=config.learning.global_batch_size, seed=config.seed
    )
    mine = shard(batch, worker.rank, worker.world_size)
    pixels = torch.from_numpy(training.images.images[mine]).to(worker.device, non_blocking=True)
    indices = torch.from_numpy(mine.copy()).to(worker.device, non_blocking=True)
    training.pending.append(learn(training.learner, pixels, indices, update, training.method))
    training.progress = replace(training.progress, update=update + 1)


def heed(training: Training, request: Request) -> None:
    """Save at once, then leave if so asked. Raises Stopped and Diverged."""
    flush(training)
    if training.saved != training.progress:
        save(training)
    if request == Request.STOP:
        raise Stopped(training.progress.update)


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
            num_workers=training.worker.world_size,
            images_per_s=num_pending * config.learning.global_batch_size / seconds,
            seconds_left=(config.learning.num_updates - done) * training.progress.seconds / done,
            sizes=config.grids.sizes,
            langevin=training.method.langevin,
        )
        tell(training, record)
    check_health(metrics, first_update=done - num_pending, sizes=config.grids.sizes, watch=config.watch)


def go_back(training: Training, event: Diverged) -> None:
    """Return to the newest good checkpoint with a smaller learning rate. Raises Diverged after too many times."""
    config, watch = training.config, training.config.watch
    num_retries = training.progress.num_retries + 1
    rate_scale = training.progress.rate_scale * watch.rate_after_retry
    if num_retries > watch.max_retries:
        raise Diverged(
            f"{event} It has done so {num_retries} times, the last with learning rates scaled by "
            f"{training.progress.rate_scale:g}; lower langevin.step_size or learning.learning_rate, or raise "
            "data.noise."
        )
    found = checkpoint.newest(training.run.store)
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
        tell(training, {"event": f"{event} Going back to {where} with the learning rates scaled by {rate_scale:g}."})


def tell(training: Training, record: dict[str, Any]) -> None:
    """Into the log and before the user's eyes; rank 0 only."""
    record = {"update": training.progress.update, **record}
    training.log.write(record)
    training.worker.show(record)


def save(training: Training) -> None:
    """Write a checkpoint; rank 0 does, the others hold the same state."""
    training.worker.busy("saving")
    training.saved = training.progress
    if training.worker.rank == 0:
        checkpoint.save(training.run.store, training.learner, training.starts, training.progress)
        checkpoint.prune(training.run.store, training.config.checkpoint.keep)
        training.log.copy_to(training.run.store)


def evaluate(training: Training) -> dict[str, float]:
    """Distances of fresh samples to held-out images, per grid; a sheet of them in the log."""
    training.worker.busy("an evaluation")
    levels = fresh_samples(
        training.learner.ema, training.starts, training.config.evaluate.num_samples, training.config, training.worker
    )
    if training.worker.rank != 0:
        return {}
    found = distances(levels[-1], training.held_out, training.config)
    training.log.write_picture(write_sheets(training.run, levels), training.progress.update)
    tell(training, {"swd": found})
    return found


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
    untrained = fresh_samples(
        make_model(config).to(worker.device), training.starts, config.evaluate.num_samples, config, worker
    )
    if worker.rank != 0:
        return {}
    data = as_floats(training.images.images[: config.evaluate.num_samples])
    result = {
        "update": training.progress.update,
        "seconds": training.progress.seconds,
        "num_retries": training.progress.num_retries,
        "swd": {
            "samples": found,
            "untrained": distances(untrained[-1], training.held_out, config),
            "data": distances(data, training.held_out, config),
        },
        "protocol": protocol(training),
    }
    training.run.store.write("result.json", json.dumps(result, indent=1).encode())
    training.log.copy_to(training.run.store)
    return result


def protocol(training: Training) -> dict[str, Any]:
    """What the distances were measured on."""
    config = training.config
    num_held_out = min(config.evaluate.num_samples, len(training.held_out))
    return {
        "metric": "sliced 1-Wasserstein distance of whole images, box-averaged to each grid, 512 directions, pixels in "
        "[-1, 1]",
        "samples": f"{config.evaluate.num_samples} fresh chains, averaged weights, "
        f"{config.per_grid('langevin.num_steps')} steps a grid",
        "reference": f"{num_held_out} images of {training.held_out.name}",
        "data": f"{min(config.evaluate.num_samples, len(training.images))} images of {training.images.name}",
    }
