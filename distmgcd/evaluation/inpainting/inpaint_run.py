"""Held-out images, or a user's own, with a part hidden and filled by a run: how near that comes, and how it looks.

RUN/inpainting/update_000500-ema-n359-seed0.json                    every number with its protocol
RUN/inpainting/update_000500-ema-n359-seed0-square.png              image, masked image, the fills
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distmgcd.config import Config
from distmgcd.core.masks import MASK_KINDS, draw_masks
from distmgcd.core.noise import Purpose
from distmgcd.data import ImageSet, open_images
from distmgcd.errors import UserError
from distmgcd.evaluation.inpainting.fills import biharmonic_fill, image_errors, mean_fill, read_mask, score_fill
from distmgcd.evaluation.measure_run import Show, silent
from distmgcd.evaluation.pictures.strip import Row, Strip, strips_as_png
from distmgcd.evaluation.record import add_results, check_writable, identity_of_model, results_of
from distmgcd.evaluation.subject import choose
from distmgcd.models.run_images import images_of, pad_line
from distmgcd.models.sampling import as_floats
from distmgcd.models.trained_model import TrainedModel, Weights, load
from distmgcd.runs.run_folder import Run
from distmgcd.workers.collectives import choose_device

FOLDER = "inpainting"
LARGEST_NUM = 1000  # images, where --num is not given
_NUM_SHOWN = 12
_HIDDEN_COLOUR = (0.6, -0.7, -0.6)  # a red, which no grey picture has
_LABELS = {"run": "run", "mean": "mean", "biharmonic": "biharm."}  # and "other", "other 2", ...
_AGAINST = "against"  # and "against 2", ...


@dataclass(frozen=True, kw_only=True)
class InpaintRequest:
    masks: tuple[str, ...] = MASK_KINDS  # kinds, and image files
    images: str | None = None  # to be filled; None: those held out from the run
    num: int | None = None  # random ones of them; None: 1,000, or all of fewer
    against: tuple[str, ...] = ()  # other runs that fill the same
    seed: int = 0  # of masks and chains
    checkpoint: str = "end"
    weights: Weights = "ema"
    data: str | None = None  # where the run's own images are; None: at its data.path
    out: str | None = None  # the folder for results; None: the run's (record.results_of)


def inpaint_run(
    run: str, request: InpaintRequest | None = None, *, use_gpu: bool | None = None, show: Show = silent
) -> dict[str, Any]:
    """Fill masked images by the run at this path; returns what its file in RUN/inpainting holds. Raises UserError."""
    start, request = time.perf_counter(), request or InpaintRequest()
    opened, device = Run.open(run), choose_device(use_gpu)
    place = results_of(opened, request.out)
    check_writable(place, FOLDER)
    models = {"run": load(run, which=request.checkpoint, device=device, weights=request.weights, data=request.data)}
    config = models["run"].config
    for key, path in _others(request).items():
        models[key] = _load_other(path, config, device, request.weights)
    images = _open_images(opened, config, request)
    indices = torch.from_numpy(choose(images, _num(request.num, images), key=0).rows)
    for note in _notes(opened, config, request, images) if request.images else ():
        show(note)
    hidden_of = {mask: _hidden(mask, indices, config.image_size, request.seed) for mask in request.masks}

    truth = as_floats(images.images[indices.numpy()])
    results, sheets = {}, {}
    for mask, hidden in hidden_of.items():
        show(f"Filling {len(truth)} images, mask {mask} ...")
        fills = _fills(models, truth, hidden, indices, request.seed, show)
        name = mask if mask in MASK_KINDS else Path(mask).name
        scores = {key: score_fill(fill, truth, hidden)._asdict() for key, fill in fills.items()}
        protocol = _protocol(mask, request, models)
        not_finite = int((~fills["run"].isfinite()).flatten(1).any(1).sum())
        results[name] = {
            "hidden": float(hidden.float().mean()),
            "fills": scores,
            "not_finite": not_finite,
            "protocol": protocol,
        }
        sheets[mask if mask in MASK_KINDS else f"file-{Path(mask).stem}"] = _sheet(name, truth, hidden, fills)
    identity = {
        **identity_of_model(opened, models["run"]),
        "num": len(truth),
        "seed": request.seed,
        "images": f"{len(truth)} random images of {images.name}",
        "images_fingerprint": images.content,
    }
    measured = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(time.perf_counter() - start, 1),
        "device": device.type,
    }
    stem = [models["run"].checkpoint, request.weights, f"n{len(truth)}", f"seed{request.seed}"]
    if request.images is not None:
        stem.append(images.fingerprint[:8])
    return add_results(place, f"{FOLDER}/{'-'.join(stem)}", identity, results, measured, sheets)


def _notes(run: Run, config: Config, request: InpaintRequest, images: ImageSet) -> Iterator[str]:
    """What should be known of a user's own images: a frame around them, and that the run was trained on some."""
    if config.data.pad:
        yield f"As in training, {pad_line(config)}"
    with suppress(UserError):  # the run's own images are no longer there
        own = images_of(run, config, "images")
        if num := int(np.isin(images.hashes, own.hashes).sum()):
            yield (
                f"{num:,} of the {len(images):,} images of {images.name} are among those that the run was trained on, "
                "pixel by pixel, so it may fill them better than new ones."
            )


def _fills(
    models: dict[str, TrainedModel], truth: Tensor, hidden: Tensor, indices: Tensor, seed: int, show: Show
) -> dict[str, Tensor]:
    """Each [N, C, S, S]; the known pixels are those of the images in all of them."""
    fills = {key: model.inpaint(truth, hidden, indices=indices, seed=seed) for key, model in models.items()}
    fills["mean"] = mean_fill(truth, hidden)
    try:
        fills["biharmonic"] = biharmonic_fill(truth, hidden)
    except ImportError:
        show("Without scikit-image there is no biharmonic fill; pip install 'distmgcd[metrics]' brings it.")
    return fills


def _hidden(mask: str, indices: Tensor, size: int, seed: int) -> Tensor:
    """bool [N, 1, size, size]."""
    if mask in MASK_KINDS:
        return draw_masks(mask, indices, size, seed=seed, purpose=Purpose.INPAINT_MASK)
    return read_mask(mask, size).expand(len(indices), 1, size, size)


# What is written beside the numbers


def _protocol(mask: str, request: InpaintRequest, models: dict[str, TrainedModel]) -> dict[str, Any]:
    file = None if mask in MASK_KINDS else hashlib.sha256(Path(mask).read_bytes()).hexdigest()
    found = {
        "mask": f"{mask}, drawn for each image from (seed, its number)" if file is None else f"the file {mask}",
        "mask_sha256": file,
        "chains": "only hidden pixels move; they know the rest at every grid (core/inpainting.py)",
        "trained": trained_for(models["run"].config, mask),
        "error": "mean absolute difference over hidden values, pixels in [0, 1]; error_deviation: over images",
        "psnr": "10 log10(1 / mean squared difference over hidden values of all images), dB",
        "mean": "the mean of the known pixels of the image, by channel",
    }
    for key, path in _others(request).items():
        other = models[key]
        found[key] = {**identity_of_model(Run.open(path), other), "trained": trained_for(other.config, mask)}
    try:
        found["biharmonic"] = f"scikit-image {version('scikit-image')}"
    except ImportError:
        found["biharmonic"] = None
    return found


def _others(request: InpaintRequest) -> dict[str, str]:
    """{its name in the file: path} of every run that fills the same."""
    return {_AGAINST if n == 1 else f"{_AGAINST} {n}": path for n, path in enumerate(request.against, start=1)}


def trained_for(config: Config, mask: str) -> str:
    """In words, what a run has learned for a mask."""
    learned = config.learning.mask
    if learned is None:
        return "zero-shot: it learned whole images"
    return "trained for it" if learned == mask else f"trained for {learned} masks"


def _sheet(name: str, truth: Tensor, hidden: Tensor, fills: dict[str, Tensor]) -> bytes:
    num = min(_NUM_SHOWN, len(truth))
    truth, hidden = truth[:num], hidden[:num]
    colour = torch.tensor(_HIDDEN_COLOUR)[:, None, None]
    rows = [Row.plain("image", truth), Row.plain("hidden", torch.where(hidden, colour, truth))]
    for key, fill in fills.items():
        errors = [f"{error:.3f}" for error in image_errors(fill[:num], truth, hidden).tolist()]
        rows.append(Row.plain(_LABELS.get(key, key.replace(_AGAINST, "other")), fill[:num], below=errors))
    return strips_as_png([Strip(f"{name}: hidden pixels (red), fills, and their errors", rows)])


# What a user can get wrong


def _load_other(against: str, config: Config, device: torch.device, weights: Weights) -> TrainedModel:
    other = load(against, device=device, weights=weights)
    ours, theirs = ((c.image_size, c.data.channels) for c in (config, other.config))
    if ours != theirs:
        raise UserError(
            f"--against must be a run on images such as this one's, {ours[0]}x{ours[0]} with {ours[1]} channels, but "
            f"{against} learned {theirs[0]}x{theirs[0]} with {theirs[1]}; choose another run."
        )
    return other


def _open_images(run: Run, config: Config, request: InpaintRequest) -> ImageSet:
    if request.images is None:
        return _or_say(
            lambda: images_of(run, config, "held_out"),
            f"The run {run.store.location} has no held-out images to fill",
            "name images of your own after RUN.",
        )
    data, path = config.data, request.images
    return _or_say(
        lambda: open_images(
            path,
            image_size=config.image_size,
            channels=data.channels,
            split="all",
            pad=data.pad,
            background=data.background,
            max_corrupt=data.max_corrupt,
        ),
        f"The images {request.images!r} cannot be filled",
        "RUN is to be followed by images as its own.",
    )


def _or_say(open_them: Callable[[], ImageSet], trouble: str, way_out: str) -> ImageSet:
    try:
        return open_them()
    except UserError as error:
        raise UserError(f"{trouble} ({str(error).rstrip('.')}); {way_out}") from None


def _num(asked: int | None, images: ImageSet) -> int:
    num = min(LARGEST_NUM, len(images)) if asked is None else asked
    if not 1 <= num <= len(images):
        raise UserError(f"--num must be from 1 to {len(images)}, the images of {images.name}, but is {num}.")
    return num
