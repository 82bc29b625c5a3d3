"""Walk the chains of one update of a run again, in this one process, however many workers trained it.

    update U, from 1, as the log counts them        its chains use the weights after U - 1 updates

A chain is a function of those weights and of (seed, image, update, grid, step). The weights come from the newest
whole checkpoint of at most U - 1 updates; the updates from there on are gone over again by the ordinary loop. On the
same kind of machine that is bit for bit the run of one worker, or of any number with learning.block_size. Without it,
the chains right after a checkpoint are those of several workers up to rounding; but their gradients were summed in
another order, and every update gone over magnifies that, because the gradient of a leaky ReLU's energy jumps. The
run's folder is only read.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from distmgcd.config import Config
from distmgcd.core.synthesis import StartDistribution
from distmgcd.data import ImageSet
from distmgcd.errors import UserError
from distmgcd.models.assemble import freeze, make_method
from distmgcd.models.run_images import images_of, with_data
from distmgcd.models.sampling import start_distribution
from distmgcd.runs import checkpoint
from distmgcd.runs.checkpoint import Progress, RateScale, scale_in_words
from distmgcd.runs.read_log import read_log
from distmgcd.runs.run_folder import Run
from distmgcd.runs.store import Store
from distmgcd.terminal import time_in_words
from distmgcd.training import loop, state
from distmgcd.training.origin import read_origin
from distmgcd.training.replay.chain_steps import GridChains, record_chains, worst
from distmgcd.training.speed import with_speed_of_run
from distmgcd.training.state import Training
from distmgcd.workers.collectives import LocalWorker

NUM_WORST = 4  # chains that are shown where none are named
_NUM_LISTED = 100  # images of the batch that a message lists
_SECONDS_BETWEEN_LINES = 10.0

Images = Sequence[int] | Literal["all"] | None
Report = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Replay:
    """The chains of n images in one update of a run, with every step."""

    run: str
    update: int  # from 1, as the log counts
    checkpoint: int  # updates done in the checkpoint that was loaded; 0: the run's start
    rate_scale: RateScale  # of the learning rates, as it was before this update
    images: list[int]  # where each stands in the training set
    grids: list[GridChains] = field(repr=False)  # coarse to fine
    notes: list[str]  # what a user should know, one sentence each

    @property
    def num_rerun(self) -> int:
        """How many updates were gone over again, from the checkpoint to the weights of this update."""
        return self.update - 1 - self.checkpoint


def replay(
    run: str,
    *,
    update: int,
    images: Images = None,
    alone: bool = False,
    rate_scale: RateScale | None = None,
    data: str | None = None,
    device: torch.device | str | None = None,
    show: Report = lambda _: None,
) -> Replay:
    """Walk chains of an update of the run at this path again. Nothing is written. Raises UserError.

    update: from 1, as the log and messages count; the chains are those of the weights before it. images: where they
    stand in the training set; None takes those of the batch whose last step drifted most. alone: run these chains
    only, not the whole batch: faster, and the same up to rounding, for a convolution may sum in another order.
    rate_scale: of the learning rates, of all grids or of each, where a run that diverged went over these updates more
    than once; None is the first time. data: where the run's images are on this machine, in place of its data.path.
    device: None takes a GPU where there is one. show is called with every note at once, and with a line of progress
    now and then.
    """
    opened, notes = Run.open(run), []

    def report(note: str) -> None:
        notes.append(note)
        show(note)

    if checkpoint.is_exported(opened.store):
        raise UserError(
            f"{run} cannot be replayed: an exported model keeps the weights of its end only, not those on the way, "
            "with which chains were run; replay the run that it was exported from."
        )
    config = with_data(opened.config(), data)
    _check_update(update, opened, config)
    _check_rate_scale(rate_scale, config)
    if alone:
        _check_alone(images, config)
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    config = with_speed_of_run(config, opened, update=update, device=device, report=report)
    training = _at_checkpoint(opened, config, update - 1, rate_scale=rate_scale, device=device, report=report)
    batch = loop.global_batch(training, update - 1)
    rows = _rows(images, batch, update).to(device)  # before anything that takes long: an image may not be in it
    pixels, indices = training.feed.read(batch)

    start = training.progress.update
    _report_what_follows(opened, config, training.progress, update - 1, rate_scale, report)
    rates = _rates_after(start, opened.store) if rate_scale is None else {}
    _go_over(training, update - 1, rates, show)
    previous = training.chains and training.chains.recall(batch, slice(0, len(batch)), update - 1)
    if alone:
        pixels, indices, previous = pixels[rows], indices[rows], previous and previous.at(rows)
        rows = torch.arange(len(rows), device=device)
    grids = record_chains(
        training.learner.model,
        pixels,
        indices,
        update - 1,
        training.method,
        rows=rows,
        previous=previous,
        block_size=None if alone else config.learning.block_size,
    )
    if images is None:
        chosen = worst(grids, NUM_WORST)
        grids, rows = [grid.of(chosen) for grid in grids], rows[chosen.to(device)]
        report(f"These are the {len(chosen)} chains of the batch whose last step drifted most, at whichever grid.")
    return Replay(run, update, start, training.progress.rate_scale, indices[rows].tolist(), grids, notes)


def _at_checkpoint(
    run: Run, config: Config, update: int, *, rate_scale: RateScale | None, device: torch.device, report: Report
) -> Training:
    """The run in this process at its newest whole checkpoint of at most so many updates, or at its start."""
    found = checkpoint.newest(run.store, warn=report, at_most=update)
    images = images_of(run, config, "images")
    reference = found or checkpoint.newest(run.store, warn=lambda _: None)
    starts = _check_images(images, reference.starts(), run, report) if reference else start_distribution(images)
    return state.at(
        found,
        config,
        LocalWorker(device),
        run,
        images=images,
        held_out=images,  # unused: nothing is evaluated
        starts=starts,
        rate_scale=rate_scale,
    )


def _report_what_follows(
    run: Run, config: Config, progress: Progress, update: int, rate_scale: RateScale | None, report: Report
) -> None:
    first, block_size = progress.update + 1, config.learning.block_size
    if config.network.norm == "batch" and not block_size:
        report("network.norm=batch couples the chains of a worker's share of the batch, so these are one worker's.")
    if first > update:
        return
    if progress.update:
        where = f"The newest checkpoint before update {update + 1} is that of update {progress.update}"
    elif origin := read_origin(run):
        where = f"The newest weights before update {update + 1} are those that the run started from, {origin}"
    else:
        where = f"No checkpoint before update {update + 1} is left (checkpoint.keep={config.checkpoint.keep})"
    which = f"update {first} is" if first == update else f"updates {first} to {update} are"
    exact = "any number of workers" if block_size else "one worker"
    report(
        f"{where}, so {which} computed again. The result is exact if {exact} on a machine like this one trained the "
        "run; otherwise it is close, and less so with every update."
    )
    others = [scale for at, scale in _rates(run.store) if at == progress.update and scale != progress.rate_scale]
    if others and rate_scale is None:
        report(
            f"The run diverged and went over these updates again with the learning rates scaled by "
            f"{' and '.join(map(scale_in_words, dict.fromkeys(others)))}; this is the first time, with "
            f"{scale_in_words(progress.rate_scale)}, and --rate-scale shows another."
        )


def _go_over(training: Training, update: int, rates: dict[int, RateScale], show: Report) -> None:
    """Do the updates again until so many are done. rates: {updates done: what the learning rates are scaled by}."""
    shown = time.monotonic()
    training.pace.start()
    while (done := training.progress.update) < update:
        if done in rates:
            training.method = make_method(training.config, rate_scale=rates[done])
            freeze(training.learner, rates[done])
            training.progress = replace(training.progress, rate_scale=rates[done])
        loop.advance(training)
        training.pace.end_update()
        training.pace.end_record(1)
        training.pending.clear()
        if (now := time.monotonic()) - shown > _SECONDS_BETWEEN_LINES:
            shown, seconds_left = now, training.pace.seconds_per_update * (update - done - 1)
            show(f"update {done + 1}/{update}  {time_in_words(seconds_left)} left")


def _rates(store: Store) -> list[tuple[int, RateScale]]:
    """(updates done, what the learning rates were scaled by from there on), in the order in which it was set."""
    scales = [(record["update"], record["rate_scale"]) for record in read_log(store) if "rate_scale" in record]
    return [(update, tuple(scale) if isinstance(scale, list) else scale) for update, scale in scales]


def _rates_after(update: int, store: Store) -> dict[int, RateScale]:
    """{updates done: rate scale} past a checkpoint of so many: where the run went back to ones that are gone now."""
    return {at: scale for at, scale in _rates(store) if at > update}


# What a user can get wrong


def _check_rate_scale(scale: RateScale | None, config: Config) -> None:
    if isinstance(scale, tuple) and len(scale) != config.num_grids:
        raise UserError(
            f"--rate-scale must be one number or one per grid, of which there are {config.num_grids}, but is "
            f"{scale_in_words(scale)}; a run's messages name it."
        )


def _check_update(update: int, run: Run, config: Config) -> None:
    """A run that has ended or was cut has run at most the updates to its next checkpoint."""
    newest = max(map(checkpoint.update_of, checkpoint.names(run.store)), default=0)
    last = min(config.learning.num_updates, newest + config.checkpoint.every)
    if not 1 <= update <= last:
        why = f"its newest checkpoint is of update {newest} and checkpoint.every={config.checkpoint.every}"
        raise UserError(
            f"--update must be from 1 to {last}, the last that the run {run.store.location} can have come to"
            f"{'' if newest == last else f' ({why})'}, but is {update}."
        )


def _check_images(images: ImageSet, learned: StartDistribution, run: Run, report: Report) -> StartDistribution:
    """See that these are the images that the run learns from, by how many have which mean colour; returns that.

    Of a run that does not say which images it is of: images_of has refused others of one that does.
    """
    num_learned = int(learned.counts.sum())
    if len(images) != num_learned:
        raise UserError(
            f"The images have changed: the run {run.store.location} learns from {num_learned}, but {images.name} has "
            f"{len(images)} now; give --data PATH of the images as they were."
        )
    now = start_distribution(images)
    if not (torch.equal(now.levels, learned.levels) and torch.equal(now.counts, learned.counts)):
        report(f"The images of {images.name} have changed since the run learned from them, so its chains differ, too.")
    return learned


def _rows(images: Images, indices: Tensor, update: int) -> Tensor:
    """Where in the batch the images are, each once. Raises UserError for one that is not in it."""
    everything, batch = torch.arange(len(indices)), indices.tolist()
    if images is None or images == "all":
        return everything
    if not images:
        raise UserError("--images must name at least one image; give numbers such as 13,18, or all.")
    if missing := sorted(set(images) - set(batch)):
        more = f", and {len(batch) - _NUM_LISTED} more" if len(batch) > _NUM_LISTED else ""
        raise UserError(
            f"--images must name images of the batch of update {update}, but it does not have "
            f"{', '.join(map(str, missing))}; it has {', '.join(map(str, sorted(batch)[:_NUM_LISTED]))}{more}, and "
            "--images all shows all of them."
        )
    return everything[[batch.index(image) for image in dict.fromkeys(images)]]


def _check_alone(images: Images, config: Config) -> None:
    if images is None:
        raise UserError("--alone runs only the chains that --images names, but it names none; give --images 13,18.")
    if config.network.norm == "batch":
        raise UserError(
            "--alone runs single chains, but network.norm=batch couples those of a batch; leave --alone out."
        )
