"""A run under way on one worker: what it holds, how it begins, and what it leaves on disk."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from torch import Tensor

from distmgcd.config import Config
from distmgcd.core.learning import Learner, Method
from distmgcd.core.parallel.blocks import Blocks
from distmgcd.core.persistent import Chains
from distmgcd.core.synthesis import StartDistribution
from distmgcd.data import ImageSet, shard
from distmgcd.evaluation.distances.measure import SampleDistances, sample_distances
from distmgcd.models.assemble import (
    freeze,
    make_blocks,
    make_chains,
    make_learner,
    make_method,
    open_held_out_images,
    open_training_images,
)
from distmgcd.models.sampling import start_distribution
from distmgcd.runs import checkpoint, learner_state
from distmgcd.runs.checkpoint import Checkpoint, Measured, Progress, RateScale
from distmgcd.runs.identity import data_record, read_data_record, write_data_record
from distmgcd.runs.log import Log, open_log, resumed_sentence
from distmgcd.runs.run_folder import Run
from distmgcd.runs.saving import Saver, reason_of
from distmgcd.training.callbacks import Callback, Callbacks, LogWriter, RunEnd, RunStart
from distmgcd.training.divergence import Past
from distmgcd.training.feed import Feed
from distmgcd.training.origin import check_untrained, read_origin
from distmgcd.training.pace import Pace
from distmgcd.training.speed import SpeedInUse, change_of_speed, first_line, speed_in_use
from distmgcd.workers.collectives import Worker

BATCH_NORM = (
    "network.norm=batch couples the chains of a worker's share of the batch, so the model depends on the number of "
    "workers; learning.block_size makes it the same on any, network.norm=none or layer does not couple chains."
)


@dataclass
class Training:
    """A run under way on one worker."""

    config: Config
    worker: Worker
    run: Run
    images: ImageSet
    feed: Feed  # of these images
    held_out: ImageSet
    starts: StartDistribution
    learner: Learner
    progress: Progress
    method: Method
    blocks: Blocks | None
    chains: Chains | None  # the persistent ones that this worker keeps
    speed: SpeedInUse  # how chains are executed here
    distances: SampleDistances | None = None  # what the run measures; None in a replay
    log: Log | None = None  # rank 0 only
    saver: Saver | None = None  # rank 0 only
    callbacks: Callbacks = field(default_factory=lambda: Callbacks([]))
    past: Past = field(default_factory=lambda: Past(warmup=0))  # of its metrics, since this process began
    # The metrics [G, M] of every update since the last record, on the device.
    pending: list[Tensor] = field(default_factory=list)
    pace: Pace = field(default_factory=Pace)
    saved: Progress | None = None  # the state that a restart would resume from

    def __post_init__(self) -> None:
        size, block, world_size = self.batch_size, self.config.learning.block_size or 1, self.worker.world_size
        self.shares = [shard(size, rank, world_size, block=block) for rank in range(world_size)]

    @property
    def batch_size(self) -> int:
        """Of all workers."""
        return self.config.learning.global_batch_size

    @property
    def share(self) -> slice:
        """This worker's part of the batch."""
        return self.shares[self.worker.rank]

    @property
    def share_size(self) -> int:
        """Images of it."""
        return self.share.stop - self.share.start


def begin(config: Config, worker: Worker, run: Run) -> tuple[Training, list[str]]:
    """The run at its newest good checkpoint, or at its start; and what its log is to say of how it was restored."""
    images, events = open_training_images(config), []
    found = checkpoint.to_resume_from(run.store, warn=events.append)
    training = at(
        found,
        config,
        worker,
        run,
        images=images,
        held_out=open_held_out_images(config),
        starts=found.starts() if found else start_distribution(images),
    )
    training.distances = sample_distances(config, training.held_out, worker)
    if found and found.progress.update and (changed := change_of_speed(found, training.speed, run)):
        events.append(changed)
    return training, events


def at(
    found: Checkpoint | None,
    config: Config,
    worker: Worker,
    run: Run,
    *,
    images: ImageSet,
    held_out: ImageSet,
    starts: StartDistribution,
    rate_scale: RateScale | None = None,
) -> Training:
    """The run as a checkpoint has it, or untrained. rate_scale: of the learning rates, if not the checkpoint's.

    Raises UserError where it has no checkpoint and did not start untrained.
    """
    if found is None:
        check_untrained(run)
    learner, chains = make_learner(config, worker), make_chains(config, worker, num_images=len(images))
    if found:
        learner_state.restore(learner, found)
        if chains:
            chains.load(found.chains())
    progress = found.progress if found else Progress()
    if rate_scale is not None:
        progress = replace(progress, rate_scale=rate_scale)
        freeze(learner, rate_scale)
    return Training(
        config=config,
        worker=worker,
        run=run,
        images=images,
        feed=Feed(images.images, worker.device),
        held_out=held_out,
        starts=starts,
        learner=learner,
        progress=progress,
        method=make_method(config, rate_scale=progress.rate_scale),
        blocks=make_blocks(config, worker),
        chains=chains,
        speed=speed_in_use(config, worker),
        past=Past(warmup=config.learning.warmup_updates),
        saved=progress,
    )


def note_images(training: Training) -> None:
    """Which images the run is of, where whoever began it has not noted that: a trial of a sweep, an older version."""
    with suppress(OSError):  # then the next start notes it
        if read_data_record(training.run.store) is None:
            write_data_record(training.run.store, data_record(training.images, training.held_out))


def open_log_and_saver(training: Training) -> LogWriter:
    """Rank 0 has both."""
    training.log = open_log(training.run, after_update=training.progress.update)
    training.saver = Saver(training.run.store, training.config.checkpoint, training.log, partial(emit, training))
    return LogWriter(training.log, partial(_log_refused, training))


def start(
    training: Training, callbacks: Sequence[Callback], events: Sequence[str], worker_failures: Sequence[str]
) -> None:
    """Open the log, then call it and the callbacks with how the run begins or resumes."""
    worker, update, config = training.worker, training.progress.update, training.config
    if worker.rank == 0:
        note_images(training)
        callbacks = [open_log_and_saver(training), *callbacks]
    training.callbacks = Callbacks(callbacks)
    share = training.share_size / training.batch_size
    training.callbacks.on_start(
        RunStart(config, training.run.store.location, update, worker.rank, worker.world_size, share)
    )
    emit(training, {"event": first_line(training.speed), "speed": training.speed})
    for event in events:
        emit(training, {"event": event})
    if not update and (origin := read_origin(training.run)):
        emit(training, {"event": f"Starting from {origin}."})
    if not update and config.network.norm == "batch" and training.blocks is None:
        emit(training, {"event": BATCH_NORM})
    if not update and training.distances and (warning := training.distances.warning()):
        emit(training, {"event": warning})
    if training.log and (update or training.log.reached or worker_failures):
        event = resumed_sentence(update, training.log, num_workers=worker.world_size)
        after = {"after": list(worker_failures)} if worker_failures else {}
        emit(training, {"event": event, **after, "rate_scale": training.progress.rate_scale})


def emit(training: Training, record: Mapping[str, Any]) -> None:
    """Give a record to the log and the callbacks. In workers other than rank 0 only those of updates."""
    if training.worker.rank == 0 or "grids" in record:
        training.callbacks.on_record({"update": training.progress.update, **record})


def _log_refused(training: Training, error: OSError) -> None:
    emit(training, {"event": f"The log cannot be written ({reason_of(error)}); its records wait in memory."})


def save(training: Training, measured: Measured | None = None) -> None:
    """Write a checkpoint, scored if there was an evaluation; rank 0 does, the others hold the same state."""
    training.worker.control.busy("saving")
    training.saved = training.progress
    chains = training.chains and training.chains.state()
    if training.saver:
        how = {"measured": measured, "chains": chains, "speed": training.speed}
        training.saver.save(training.learner, training.starts, training.progress, **how)
        if training.callbacks.wait_for_checkpoints:
            training.saver.settle()


def leave(training: Training, result: dict[str, Any] | None, error: BaseException | None) -> None:
    """However a run ends: see that what is being written is whole, and that the log is where it belongs."""
    with ExitStack() as last_first:
        if training.log and training.saver:
            last_first.callback(training.run.drop_log_folder, training.log.folder)
            last_first.callback(_copy_log, training.log, training.run)
        last_first.callback(training.callbacks.on_end, RunEnd(training.progress.update, result, error))
        if training.saver:
            last_first.callback(training.saver.settle)


def _copy_log(log: Log, run: Run) -> None:
    with suppress(OSError):
        log.copy_to(run.store)
