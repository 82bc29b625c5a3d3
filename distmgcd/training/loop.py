"""The training loop. It asks a small Worker, never a framework; one rank is a special case of many."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from distmgcd.config import Config
from distmgcd.core.learning import Learned, learn
from distmgcd.core.parallel.blocks import learn_in_blocks
from distmgcd.data import batch_indices, shard
from distmgcd.runs.checkpoint import frozen_grids
from distmgcd.runs.log import make_record
from distmgcd.runs.run_folder import Run
from distmgcd.runs.saving import not_saved
from distmgcd.training.divergence import Diverged, check_growth, check_health
from distmgcd.training.results import evaluate, finish
from distmgcd.training.roll_back import roll_back
from distmgcd.training.state import Training, begin, leave, save, tell
from distmgcd.training.time_left import announcement, seconds_left
from distmgcd.workers.collectives import Worker
from distmgcd.workers.stop import Request, Stopped


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
                    handle_request(training, request)
                if not training.pending:
                    training.pace.start()  # what was done before is no part of an update
                advance(training)
                training.pace.end_update()
                done += 1
                evaluated = evaluations > 0 and done % evaluations == 0 and done < last
                if evaluated or done % logs == 0 or done % checkpoints == 0 or done == last:
                    flush(training)  # before a checkpoint, so that only a healthy state is saved
            except Diverged as event:
                roll_back(training, event)
                continue
            found = evaluate(training) if evaluated else None
            if evaluated or done % checkpoints == 0 or done == last:  # what was measured is kept if it is the best
                save(training, found)
        return finish(training)
    finally:
        if training.log:
            leave(training)


def advance(training: Training) -> None:
    """One update, without waiting for the device."""
    update, config = training.progress.update, training.config
    share = shares_of(training)[training.worker.rank]
    weight = (share.stop - share.start) * training.worker.world_size / config.learning.global_batch_size
    learned = learn_one_batch(training, weight)
    training.pending.append(learned.metrics)
    training.progress = replace(training.progress, update=update + 1)


def learn_one_batch(training: Training, weight: float) -> Learned:
    """The update whose turn it is; the images of the next one are read ahead, and persistent chains go on."""
    update, method, chains = training.progress.update, training.method, training.chains
    batch, shares = global_batch(training, update), shares_of(training)
    mine = shares[training.worker.rank]
    pixels, indices = training.feed.read(batch[mine])
    previous = chains and chains.recall(batch, mine, update)
    if training.blocks:
        learned = learn_in_blocks(
            training.learner, pixels, indices, update, method, blocks=training.blocks, previous=previous
        )
    else:
        learned = learn(training.learner, pixels, indices, update, method, weight=weight, previous=previous)
    if update + 1 < training.config.learning.num_updates:
        training.feed.read_ahead(global_batch(training, update + 1)[mine])
    if chains:
        chains.keep(batch, shares, learned.synthesised)
    return learned


def global_batch(training: Training, update: int) -> Tensor:
    """The images of the batch of all workers, int64 [B], on the CPU; update counts from 0."""
    config, num_images = training.config, len(training.images)
    batch_size = config.learning.global_batch_size
    return torch.from_numpy(
        batch_indices(update, num_images=num_images, global_batch_size=batch_size, seed=config.seed).copy()
    )


def shares_of(training: Training) -> list[slice]:
    """Every worker's part of the batch."""
    learning, world_size = training.config.learning, training.worker.world_size
    return [
        shard(learning.global_batch_size, rank, world_size, block=learning.block_size or 1)
        for rank in range(world_size)
    ]


def handle_request(training: Training, request: Request) -> None:
    """Save at once, then leave if so asked. Raises Stopped and Diverged."""
    flush(training)
    if training.saved != training.progress:
        save(training)
    if request == Request.STOP:
        if training.saver and (error := training.saver.settle()):
            raise not_saved("was asked to stop", "its last checkpoint", error, training.run.store)
        raise Stopped(training.progress.update)


def flush(training: Training) -> None:
    """Read the metrics since the last record, from all workers; log them and check their health. Raises Diverged."""
    if not training.pending:
        return
    config, done, num_pending = training.config, training.progress.update, len(training.pending)
    metrics = training.worker.mean(torch.stack(training.pending)).cpu()  # the only place that waits for the device
    training.pending.clear()
    seconds = training.pace.end_record(num_pending)
    training.progress = replace(training.progress, seconds=training.progress.seconds + seconds)
    record = {
        "update": done,
        **make_record(
            metrics,
            num_updates=config.learning.num_updates,
            num_workers=training.worker.world_size,
            images_per_s=num_pending * config.learning.global_batch_size / seconds,
            seconds_left=seconds_left(config, done, training.pace.seconds_per_update),
            sizes=config.grids.sizes,
            langevin=training.method.langevin,
        ),
    }
    share = shares_of(training)[training.worker.rank]
    training.worker.meter(record, images_per_s=num_pending * (share.stop - share.start) / seconds)
    if training.log:
        tell(training, record)
        if event := announcement(config, done, training.pace):
            tell(training, event)
        training.saver.settle(wait=False)
    frozen = frozen_grids(training.progress.rate_scale)
    first, bounds = done - num_pending + 1, {"sizes": config.grids.sizes, "watch": config.watch, "frozen": frozen}
    check_health(metrics, first_update=first, **bounds)
    training.past.add(metrics, first_update=first)
    check_growth(training.past, update=done, **bounds)
