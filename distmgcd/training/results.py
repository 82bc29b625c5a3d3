"""What a run is worth: distances of fresh samples, sheets of them, and the result at the end."""

import io
import json
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from distmgcd.core.chains import bank
from distmgcd.core.energy import MultiGridEnergy
from distmgcd.evaluate.sheet import save_pyramid_sheet, save_sheet
from distmgcd.runs.run import Run
from distmgcd.runs.saving import not_saved, reason_of
from distmgcd.training.assemble import make_model
from distmgcd.training.assess import (
    Distances,
    distances,
    draws_of_bank,
    draws_of_data,
    evaluation_seeds,
    fresh_samples,
    protocol,
)
from distmgcd.training.state import Training, save, tell
from distmgcd.training.stop import Stopped

SHEET_SIZE = 64
_PYRAMID_COLUMNS = 12


def evaluate(training: Training) -> Distances | None:
    """Distances of fresh samples to held-out images, on rank 0; a sheet of them in the log."""
    training.worker.busy("an evaluation")
    draws = sample(training, training.learner.ema)
    if draws is None or training.worker.rank != 0:
        return None
    found = _distances_of_draws(draws, training)
    tell(training, {"swd": found.mean, "swd_spread": found.spread})
    try:
        training.log.write_picture(write_sheets(training.run, draws[0]), training.progress.update)
    except OSError as error:
        tell(training, {"event": f"samples.png and pyramid.png could not be written ({reason_of(error)})."})
    return found


def sample(training: Training, model: MultiGridEnergy) -> list[list[Tensor]] | None:
    """Every draw of fresh samples, at every grid; None if the run is asked to leave meanwhile."""
    config, worker, draws = training.config, training.worker, []
    for seed in evaluation_seeds(config):
        if worker.leaving():
            return None
        draws.append(fresh_samples(model, training.starts, config.evaluate.num_samples, config, worker, seed=seed))
    return draws


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
    untrained = sample(training, make_model(config).to(worker.device)) if config.evaluate.untrained else None
    if worker.leaving():
        raise Stopped(training.progress.update)
    chains = training.chains and training.chains.state()
    if worker.rank != 0:
        return {}
    all_distances = {
        "samples": found,
        **({"bank": _distances_of_bank(chains, training)} if chains else {}),
        **({"untrained": _distances_of_draws(untrained, training)} if untrained else {}),
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


def _distances_of_draws(draws: list[list[Tensor]], training: Training) -> Distances:
    """Of samples at the finest grid."""
    return distances([levels[-1] for levels in draws], training.held_out, training.config)


def _distances_of_bank(chains: dict[str, Tensor], training: Training) -> Distances:
    """Of the run's persistent chains themselves, beside which one sees what fresh samples lack."""
    config = training.config
    pictures = bank(chains, channels=config.data.channels, size=config.image_size)
    return distances(draws_of_bank(pictures, config), training.held_out, config)


def conclude(training: Training, result: dict[str, Any]) -> None:
    """Write result.json, after the last checkpoint: a run that has it is finished. Raises NotSaved."""
    store = training.run.store
    if error := training.saver.settle():
        raise not_saved("has come to its end", "its last checkpoint", error, store) from error
    try:
        training.log.copy_to(store)
        store.write("result.json", json.dumps(result, indent=1).encode())
    except OSError as error:
        raise not_saved("has come to its end", "its result", error, store) from error
