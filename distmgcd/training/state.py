"""A run under way on one worker: what it holds, how it begins, and what it leaves on disk."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from torch import Tensor

from distmgcd.config import Config
from distmgcd.core.learning import Learner, Method
from distmgcd.core.parallel.blocks import Blocks
from distmgcd.core.persistent import Chains
from distmgcd.core.synthesis import StartDistribution
from distmgcd.data import ImageSet
from distmgcd.evaluation.distances.feature_distance import FrechetDistance, frechet_distance_of
from distmgcd.evaluation.distances.sample_distance import Distances
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
from distmgcd.runs.checkpoint import Checkpoint, Progress, RateScale
from distmgcd.runs.identity import data_record, read_data_record, write_data_record
from distmgcd.runs.log import Log, going_on, open_log
from distmgcd.runs.run_folder import Run
from distmgcd.runs.saving import Saver, reason_of
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
    frechet: FrechetDistance | None = None  # if evaluate.features asks for it
    log: Log | None = None  # rank 0 only
    saver: Saver | None = None  # rank 0 only
    past: Past = field(default_factory=lambda: Past(warmup=0))  # of its metrics, since this process began
    log_refused: bool = False  # the user was told that the disk takes no more of the log
    # The metrics [G, M] of every update since the last record, on the device.
    pending: list[Tensor] = field(default_factory=list)
    pace: Pace = field(default_factory=Pace)
    saved: Progress | None = None  # the state that a restart would go on from


def begin(config: Config, worker: Worker, run: Run) -> Training:
    """The run at its newest good checkpoint, or at its start, with its log open."""
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
    training.frechet = frechet_distance_of(config, training.held_out, worker)
    if found and found.progress.update and (changed := change_of_speed(found, training.speed, run)):
        events.append(changed)
    if worker.rank == 0:
        note_images(training)
        open_log_and_saver(training, events)
    return training


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


def open_log_and_saver(training: Training, events: Sequence[str]) -> None:
    """The log and who saves, on rank 0; the log says how chains are executed, these events, and whether it goes on."""
    update, worker = training.progress.update, training.worker
    training.log = open_log(training.run, after_update=update)
    training.saver = Saver(training.run.store, training.config.checkpoint, training.log, partial(tell, training))
    tell(training, {"event": first_line(training.speed), "speed": training.speed})
    for event in events:
        tell(training, {"event": event})
    if not update and (origin := read_origin(training.run)):
        tell(training, {"event": f"Starting from {origin}."})
    if not update and training.config.network.norm == "batch" and training.blocks is None:
        tell(training, {"event": BATCH_NORM})
    if not update and training.frechet and (warning := training.frechet.warning()):
        tell(training, {"event": warning})
    if update or training.log.reached or worker.worker_failures:
        event = going_on(update, training.log, num_workers=worker.world_size)
        after = {"after": list(worker.worker_failures)} if worker.worker_failures else {}
        tell(training, {"event": event, **after, "rate_scale": training.progress.rate_scale})


def tell(training: Training, record: dict[str, Any]) -> None:
    """Into the log and before the user's eyes; rank 0 only."""
    record = {"update": training.progress.update, **record}
    refused = training.log.write(record)
    training.worker.show(record)
    if refused and not training.log_refused:
        training.log_refused = True
        tell(training, {"event": f"The log cannot be written ({reason_of(refused)}); its records wait in memory."})


def announce(training: Training, what: str) -> None:
    """Say what takes a while before it is done; all workers may call it.

    Through the log, for whoever started workers on Ray follows that.
    """
    if training.log:
        tell(training, {"doing": what})


def save(training: Training, found: Mapping[str, Distances] | None = None) -> None:
    """Write a checkpoint, scored if there was an evaluation; rank 0 does, the others hold the same state."""
    training.worker.busy("saving")
    training.saved = training.progress
    chains = training.chains and training.chains.state()
    if training.saver:
        measured = {family: distances.mean for family, distances in (found or {}).items()}
        measured |= {f"{family}_spread": distances.spread for family, distances in (found or {}).items()}
        how = {"measured": measured, "chains": chains, "speed": training.speed}
        training.saver.save(training.learner, training.starts, training.progress, **how)


def leave(training: Training) -> None:
    """However a run ends: see that what is being written is whole, and that the log is where it belongs."""
    training.saver.settle()
    with suppress(OSError):
        training.log.copy_to(training.run.store)
    training.run.drop_log_folder(training.log.folder)
