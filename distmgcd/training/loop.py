"""The training loop. It asks a small Worker, never a framework; one rank is a special case of many."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from distmgcd.config import Config
from distmgcd.core.learning import learn
from distmgcd.core.parallel.blocks import learn_in_blocks
from distmgcd.data import batch_indices
from distmgcd.runs.checkpoint import frozen_grids
from distmgcd.runs.log import make_record
from distmgcd.runs.run_folder import Run
from distmgcd.runs.saving import not_saved
from distmgcd.training.callbacks import Callback
from distmgcd.training.divergence import Diverged, check_growth, check_health
from distmgcd.training.pace import announcement, seconds_left
from distmgcd.training.results import evaluate, finish
from distmgcd.training.roll_back import roll_back
from distmgcd.training.state import Training, begin, emit, leave, save, start
from distmgcd.workers.collectives import Worker
from distmgcd.workers.stop import Request, Stopped


def train(
    config: Config,
    worker: Worker,
    run: Run,
    callbacks: Sequence[Callback] = (),
    *,
    worker_failures: Sequence[str] = (),
) -> dict[str, Any]:
    """Train to the end, from the newest good checkpoint if there is one; returns what result.json holds.

    All workers call it. callbacks: of this process, see Callback; workers other than rank 0 call only on_start, on_log,
    on_end and should_stop. worker_failures: what ended the workers before these, a sentence each, for the log.
    Raises UserError for a mistake in the config or data, Diverged when rolling back did not help, Stopped where the
    worker or a callback asks for it, and whatever a callback raises.
    """
    training, events = begin(config, worker, run)
    result, error = None, None
    try:
        start(training, callbacks, events, worker_failures)
        while training.progress.update < config.learning.num_updates:
            train_on(training)
        result = finish(training)
        return result
    except BaseException as raised:
        error = raised
        raise
    finally:
        leave(training, result, error)


def train_on(training: Training) -> None:
    """One update, and what is due after it: a record, an evaluation, a checkpoint. Or back to an earlier checkpoint."""
    config, update = training.config, training.progress.update
    wish = Request.STOP if training.callbacks.should_stop() else Request.CONTINUE
    request = training.worker.control.before_update(update, wish)
    done, last = update + 1, update + 1 == config.learning.num_updates
    evaluates = config.evaluate.every > 0 and done % config.evaluate.every == 0 and not last
    saves = evaluates or done % config.checkpoint.every == 0 or last
    try:
        if request:
            handle_request(training, request)
        if not training.pending:
            training.pace.start()  # what was done before is no part of an update
        advance(training)
        training.pace.end_update()
        if saves or done % config.log.every == 0:
            flush(training)  # before a checkpoint, so that only a healthy state is saved
    except Diverged as event:
        roll_back(training, event)
        return
    found = evaluate(training) if evaluates else None
    if saves:  # what was measured is kept if it is the best
        save(training, found)


def advance(training: Training) -> None:
    """One update, without waiting for the device; the images of the next one are read ahead."""
    update, method, chains, share = training.progress.update, training.method, training.chains, training.share
    batch = global_batch(training, update)
    pixels, indices = training.feed.read(batch[share])
    previous = chains and chains.recall(batch, share, update)
    if training.blocks:
        learned = learn_in_blocks(
            training.learner, pixels, indices, update, method, blocks=training.blocks, previous=previous
        )
    else:
        weight = training.share_size * training.worker.world_size / training.batch_size
        learned = learn(training.learner, pixels, indices, update, method, weight=weight, previous=previous)
    if update + 1 < training.config.learning.num_updates:
        training.feed.read_ahead(global_batch(training, update + 1)[share])
    if chains:
        chains.keep(batch, training.shares, learned.synthesised)
    training.pending.append(learned.metrics)
    training.progress = replace(training.progress, update=update + 1)


def global_batch(training: Training, update: int) -> Tensor:
    """The images of the batch of all workers, int64 [B], on the CPU; update counts from 0."""
    how = {"num_images": len(training.images), "global_batch_size": training.batch_size, "seed": training.config.seed}
    return torch.from_numpy(batch_indices(update, **how).copy())


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
            images_per_s=num_pending * training.batch_size / seconds,
            seconds_left=seconds_left(config, done, training.pace.seconds_per_update),
            sizes=config.grids.sizes,
            langevin=training.method.langevin,
        ),
    }
    emit(training, record)
    if event := announcement(config, done, training.pace):
        emit(training, event)
    if training.saver:
        training.saver.settle(wait=False)
    frozen = frozen_grids(training.progress.rate_scale)
    first, bounds = done - num_pending + 1, {"sizes": config.grids.sizes, "watch": config.watch, "frozen": frozen}
    check_health(metrics, first_update=first, **bounds)
    training.past.add(metrics, first_update=first)
    check_growth(training.past, update=done, **bounds)
