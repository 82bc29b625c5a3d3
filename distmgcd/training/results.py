"""Evaluating a run: distances of fresh samples, sheets of them, and the result at the end."""

import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from distmgcd.config import Config
from distmgcd.core.energy import MultiGridEnergy
from distmgcd.core.persistent import bank
from distmgcd.evaluation.distances.draws import draws_of_bank, draws_of_data, evaluation_seeds, protocol
from distmgcd.evaluation.distances.measure import SampleDistances
from distmgcd.evaluation.pictures.sheet import save_pyramid_sheet, save_sheet
from distmgcd.models.assemble import make_model
from distmgcd.models.sampling import fresh_samples
from distmgcd.runs import checkpoint, learner_state, retention, strict_json
from distmgcd.runs.checkpoint import DamagedCheckpoint, Measured
from distmgcd.runs.run_folder import Run
from distmgcd.runs.saving import not_saved, reason_of
from distmgcd.training.origin import origin_in_result
from distmgcd.training.state import Training, emit, save
from distmgcd.workers.stop import Request, Stopped

SHEET_SIZE = 64
_PYRAMID_COLUMNS = 12


def evaluate(training: Training, *, best: bool = False) -> Measured | None:
    """Distances of fresh samples to held-out images, on rank 0; a sheet of them in the log.

    best: of the weights of an earlier update, which are no part of the log.
    """
    training.worker.control.busy("an evaluation")
    emit(training, {"doing": _what_is_measured(training)})
    draws = sample(training, training.learner.ema)
    found = _measure(_finest(draws), training) if draws is not None else None
    if found is None or draws is None:
        return None
    if not best:
        emit(training, found)
    try:
        sheet = write_sheets(training.run, draws[0])
    except OSError as error:
        emit(training, {"event": f"samples.png and pyramid.png could not be written ({reason_of(error)})."})
        return found
    if not best:
        training.callbacks.on_samples(sheet, training.progress.update)
    return found


def sample(training: Training, model: MultiGridEnergy) -> list[list[Tensor]] | None:
    """Every draw of fresh samples, at every grid; None if the run is asked to leave meanwhile."""
    config, worker, draws = training.config, training.worker, []
    for seed in evaluation_seeds(config):
        if is_leaving(training):
            return None
        draws.append(fresh_samples(model, training.starts, config.evaluate.num_samples, config, worker, seed=seed))
    return draws


def is_leaving(training: Training) -> bool:
    """Whether all workers are to leave; called by all of them."""
    return training.worker.control.leaving(Request.STOP if training.callbacks.should_stop() else Request.CONTINUE)


def write_sheets(run: Run, levels: list[Tensor]) -> np.ndarray:
    """samples.png, and the same samples at every grid in pyramid.png; returns the first as uint8 [H, W, 3]."""
    sheet, pyramid = io.BytesIO(), io.BytesIO()
    save_sheet(levels[-1][:SHEET_SIZE], sheet)
    save_pyramid_sheet([level[:_PYRAMID_COLUMNS] for level in levels], pyramid)
    run.store.write("samples.png", sheet.getvalue())
    run.store.write("pyramid.png", pyramid.getvalue())
    return np.asarray(Image.open(sheet).convert("RGB"))


def finish(training: Training) -> dict[str, Any]:
    """The last evaluation, beside the untrained model and the data against itself; writes and returns result.json.

    The untrained model is left out where evaluate.untrained is false. Raises Stopped where the run is asked to leave
    meanwhile: the last update is saved, and only this is left to do.
    """
    config, worker = training.config, training.worker
    found = evaluate(training)
    save(training, found)  # again, with its score: it was saved before, for an evaluation takes a while
    newest, best = found, take_best(training)
    if best:
        found = evaluate(training, best=True)
    worker.control.busy("an evaluation of what samples are seen beside")
    emit(training, {"doing": _what_is_beside(config)})
    untrained = sample(training, make_model(config).to(worker.device)) if config.evaluate.untrained else None
    if is_leaving(training):
        raise Stopped(training.progress.update)
    chains = training.chains and training.chains.state()
    others = _others(training, chains, untrained)
    measured = {"newest": newest} if best else {}
    measured |= {name: _measure(sets, training) for name, sets in others}
    if worker.rank != 0:
        return {}
    assert found is not None  # as this is rank 0, and not asked to leave
    records = {"samples": found, **measured}
    result = {
        "update": training.progress.update,
        "seconds": training.progress.seconds,
        "num_retries": training.progress.num_retries,
        **({"ended_with": {"checkpoint": best, "metric": config.checkpoint.metric}} if best else {}),
        **origin_in_result(training.run),
        "speed": training.speed,
        **{key: {name: record[key] for name, record in records.items()} for key in records["samples"]},
        "protocol": protocol(config, training.images, training.held_out)
        | _distances_of(training).protocol()
        | ({"chosen": _how_chosen(training, best)} if best else {}),
    }
    conclude(training, result)
    return result


def take_best(training: Training) -> str | None:
    """Put the best checkpoint's averaged weights and persistent chains in place of the last update's, if it is clearly
    better and the config wants to end with it; returns its name. All workers call it.
    """
    settings, store = training.config.checkpoint, training.run.store
    if settings.end_with == "newest":
        return None
    if training.saver:
        training.saver.settle()
    training.worker.mean(torch.zeros(1, device=training.worker.device))  # all wait for that: they read what it wrote
    name = retention.clearly_best(store, settings.metric, end=checkpoint.name_of(training.progress.update))
    try:
        found = checkpoint.read(store, name) if name else None
    except DamagedCheckpoint as error:
        emit(training, {"doing": f"The best checkpoint, {name}, is damaged ({error}); the run ends with the newest."})
        return None
    if name is None or found is None:
        return None
    learner_state.load_weights(training.learner.ema, found, "ema.safetensors")
    if training.chains:
        training.chains.load(found.chains())
    if training.worker.rank == 0:
        emit(training, {"event": _best_in_words(training, name)})
    return name


def _best_in_words(training: Training, name: str) -> str:
    metric, last = training.config.checkpoint.metric, training.progress.update
    found = retention.scores(training.run.store, metric)
    return (
        f"The model of update {checkpoint.update_of(name)} is clearly better than that of the last update {last} "
        f"({metric} {found[name]:.4g} against {found[checkpoint.name_of(last)]:.4g}), so the run ends with it "
        "(checkpoint.end_with=best): load, sample and evaluate take it, and --checkpoint newest takes the last."
    )


def _how_chosen(training: Training, name: str) -> str:
    return (
        f"the samples are of update {checkpoint.update_of(name)}, the best of the run's evaluations by "
        f"{training.config.checkpoint.metric} against the same held-out images, which flatters them a little; newest: "
        "those of the last update, which nobody chose"
    )


def _what_is_measured(training: Training) -> str:
    num, num_draws = training.config.evaluate.num_samples, training.config.evaluate.num_draws
    draws = f", {num_draws} draws" if num_draws > 1 else ""
    return f"Measuring {num:,} samples against {min(num, len(training.held_out)):,} held-out images{draws} ..."


def _what_is_beside(config: Config) -> str:
    untrained = (
        "the untrained model (evaluate.untrained=false leaves that out) and " if config.evaluate.untrained else ""
    )
    chains = "persistent chains, " if config.start.kind == "persistent" else ""
    return f"Measuring {chains}{untrained}training images in the same way ..."


def _measure(sets: Sequence[Tensor], training: Training) -> Measured | None:
    """Distances of sets of pictures to the held-out images; all workers call it, None but in the first.

    {"swd": {size: mean}, "swd_spread": {size: deviation}}, and the same of fd if evaluate.features is set.
    """
    if (found := _distances_of(training)(sets)) is None:
        return None
    means = {family: distances.mean for family, distances in found.items()}
    return means | {f"{family}_spread": distances.spread for family, distances in found.items()}


def _distances_of(training: Training) -> SampleDistances:
    assert training.distances is not None  # state.begin has made them
    return training.distances


def _finest(draws: list[list[Tensor]]) -> list[Tensor]:
    return [levels[-1] for levels in draws]


def _others(
    training: Training, chains: dict[str, Tensor] | None, untrained: list[list[Tensor]] | None
) -> Iterator[tuple[str, list[Tensor]]]:
    """What fresh samples are seen beside: persistent chains themselves, the untrained model, the data."""
    config = training.config
    if chains:
        yield "bank", draws_of_bank(bank(chains, channels=config.data.channels, size=config.image_size), config)
    if untrained:
        yield "untrained", _finest(untrained)
    yield "data", draws_of_data(training.images, config)


def conclude(training: Training, result: dict[str, Any]) -> None:
    """Write result.json, after the last checkpoint: a run that has it is finished. Raises NotSaved."""
    store = training.run.store
    assert training.saver and training.log  # rank 0 has both
    training.saver.settle()
    if error := training.saver.error:
        raise not_saved("has come to its end", "its last checkpoint", error, store) from error
    try:
        training.log.copy_to(store)
        store.write("result.json", strict_json.dumps(result, indent=1).encode())
    except OSError as error:
        raise not_saved("has come to its end", "its result", error, store) from error
