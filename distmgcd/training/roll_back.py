"""After a grid diverged: back to a good checkpoint, with a smaller learning rate for that grid.

Only for that grid: grids share no weights and each has its own optimiser, so the rate of another one is no cause, and
lowering it would cost the other one what it has left to learn.

If the trouble comes again, that checkpoint was ill already, for a grid may take hundreds of updates to run away. So
each time in a row rolls back to an earlier one. If that does not help either, the grid is frozen: it keeps the averaged
weights that it had there, which cannot run away, and the other grids learn on.
"""

from dataclasses import replace

import torch

from distmgcd.config import Config
from distmgcd.models.assemble import freeze, make_chains, make_learner, make_method
from distmgcd.runs import checkpoint, learner_state, retention
from distmgcd.runs.checkpoint import Checkpoint, Progress, RateScale, scale_in_words
from distmgcd.runs.store import Store
from distmgcd.training.divergence import Diverged
from distmgcd.training.origin import check_untrained
from distmgcd.training.state import Training, emit

_LEAST_LEFT = 0.5  # of the updates of a checkpoint that proved to be ill: going further back costs more than it mends
_CHECKPOINTS = 4  # a divergence before the last one was left so many checkpoints behind is the same trouble again


def roll_back(training: Training, event: Diverged) -> None:
    """Return to a good checkpoint with a smaller rate. Raises Diverged after too many times in a row."""
    progress, config, store = training.progress, training.config, training.run.store
    again = is_again(progress, event.update, every=config.checkpoint.every)
    in_a_row = list(progress.retries_in_a_row if again else [0] * config.num_grids)
    before = progress.went_back_to if in_a_row[event.grid] else None
    in_a_row[event.grid] += 1
    if training.saver:
        training.saver.settle()
    training.worker.mean(torch.zeros(1, device=training.worker.device))  # all wait for that: they read what it wrote
    found = find_healthy(store, before=before)
    factor = config.watch.rate_after_retry
    if in_a_row[event.grid] > config.watch.max_retries:
        if not may_freeze(progress.rate_scale, event.grid, found, config):
            raise _given_up(training, event, in_a_row[event.grid])
        factor = 0.0
    if training.saver and found:
        retention.discard_after(store, found.progress.update, metric=config.checkpoint.metric)
    rate_scale = lowered(progress.rate_scale, event.grid, factor, num_grids=config.num_grids)
    _put_back(training, found)
    freeze(training.learner, rate_scale)
    training.progress = replace(
        found.progress if found else Progress(),
        num_retries=progress.num_retries + 1,
        rate_scale=rate_scale,
        seconds=progress.seconds,
        retries_in_a_row=tuple(in_a_row),
        diverged_at=max(event.update, progress.diverged_at if again else 0),
        went_back_to=found.progress.update if found else 0,
    )
    training.method = make_method(config, rate_scale=training.progress.rate_scale)
    training.past.forget_after(training.progress.update)
    text = _in_words(training, event, found, before=before)
    emit(training, {"event": text, "rate_scale": training.progress.rate_scale})


def is_again(progress: Progress, update: int, *, every: int) -> bool:
    """Whether a divergence at an update is the trouble that the run went back for last. every: checkpoint.every."""
    return any(progress.retries_in_a_row) and update <= progress.diverged_at + _CHECKPOINTS * every


def find_healthy(store: Store, *, before: int | None) -> Checkpoint | None:
    """The newest good checkpoint, or the newest of fewer updates than the one that proved to be ill; None: the start.

    Where there is none of fewer, or only one of far fewer (old checkpoints are deleted, but the best), the ill one has
    to do, with a smaller rate.
    """
    if not before:  # the start, which is never ill
        return checkpoint.to_resume_from(store)
    earlier = checkpoint.newest(store, at_most=before - 1)
    if earlier and earlier.progress.update < _LEAST_LEFT * before:
        earlier = None
    return earlier or checkpoint.newest(store, at_most=before) or checkpoint.to_resume_from(store)


def lowered(scale: RateScale, grid: int, factor: float, *, num_grids: int) -> RateScale:
    """What is left of the learning rates when that of one grid is multiplied by the factor."""
    scales = list(scale) if isinstance(scale, tuple) else [scale] * num_grids
    scales[grid] *= factor
    return scales[0] if num_grids == 1 else tuple(scales)


def may_freeze(scale: RateScale, grid: int, found: Checkpoint | None, config: Config) -> bool:
    """Whether a grid may stay as this checkpoint has it while others learn on. Not what was never trained."""
    others = [scale] if not isinstance(scale, tuple) else scale[:grid] + scale[grid + 1 :]
    learned, first_time = found is not None and found.progress.update > 0, not isinstance(scale, tuple) or scale[grid]
    return bool(config.watch.max_retries and config.num_grids > 1 and any(others) and learned and first_time)


def _put_back(training: Training, found: Checkpoint | None) -> None:
    """Weights, optimisers and persistent chains as they were then."""
    config, num_images = training.config, len(training.images)
    training.chains = make_chains(config, training.worker, num_images=num_images)
    if found is None:
        check_untrained(training.run)
        training.learner = make_learner(config, training.worker)
        return
    learner_state.restore(training.learner, found)
    if training.chains:
        training.chains.load(found.chains())


def _in_words(training: Training, event: Diverged, found: Checkpoint | None, *, before: int | None) -> str:
    """before: the checkpoint that proved to be ill."""
    scale, size = training.progress.rate_scale, training.config.grids.sizes[event.grid]
    left = scale[event.grid] if isinstance(scale, tuple) else scale
    update = found.progress.update if found else 0
    earlier = "the earlier" if before and update < before else "the"
    where = f"{event} Going back to {f'{earlier} checkpoint of update {update}' if found else 'the start'}"
    if left == 0:
        return f"{where}: smaller rates did not help, so grid {size}x{size} is frozen and only the others learn on."
    return f"{where} with the learning rate of grid {size}x{size} scaled by {left:g}."


def _given_up(training: Training, event: Diverged, in_a_row: int) -> Diverged:
    """The end of a run that smaller rates do not help; also an event of the log."""
    config, store = training.config, training.run.store
    text = (
        f"{event} It has done so {in_a_row} times in a row, the last with learning rates scaled by "
        f"{scale_in_words(training.progress.rate_scale)}; lower langevin.step_size or learning.learning_rate, or raise "
        "data.noise."
    )
    if training.saver:
        training.saver.settle()
        if found := retention.scores(store, config.checkpoint.metric):
            best = checkpoint.update_of(min(found, key=found.__getitem__))
            text += f" Its best model, of update {best}, is kept: --checkpoint best shows it."
        emit(training, {"diverged": text})
    return Diverged(text)
