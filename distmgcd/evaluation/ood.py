"""Does the energy separate other images from held-out ones? AUROC of "the other image has the higher energy".

    AUROC = P(U(other) > U(held out)) + P(U(other) = U(held out)) / 2

1: every other image has the higher energy; 0.5: no difference; below 0.5: the model finds the others likelier. The last
is no mistake: densities of images are governed by low-level statistics, and smooth or simple images get low energy
whatever they show (Nalisnick et al. 2019, arXiv 1810.09136). Constant images and uniform noise are measured, too, to
show it.
"""

import platform
from collections.abc import Sequence
from typing import Any

import numpy as np
import sklearn
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from distmgcd import __version__
from distmgcd.config import Config
from distmgcd.core.energy import frozen
from distmgcd.core.grids import pyramid
from distmgcd.data import ImageSet, open_images
from distmgcd.errors import UserError
from distmgcd.evaluation.record import check_writable, results_of, write_record
from distmgcd.evaluation.subject import choose
from distmgcd.models.run_images import images_of
from distmgcd.models.sampling import as_floats
from distmgcd.models.trained_model import TrainedModel, Weights, load
from distmgcd.runs.run_folder import Run
from distmgcd.workers.collectives import choose_device

LARGEST_NUM = 10_000
SUM = "sum"  # of the energies of all grids
_BATCH = 256


def tell_apart(
    run: str,
    others: Sequence[str],
    *,
    split: str = "test",
    num: int = LARGEST_NUM,
    seed: int = 0,
    checkpoint: str = "end",
    weights: Weights = "ema",
    data: str | None = None,
    out: str | None = None,
    use_gpu: bool | None = None,
) -> dict[str, Any]:
    """AUROC of held-out images against images of each path, made ones and the training images. Raises UserError.

    num: the most images of each set; split: of the other data sets. data: where the run's own images are, None: at its
    data.path. Returns what its file in RUN/evaluation holds. out: the folder for that, in place of RUN.
    """
    if num < 2:
        raise UserError(f"--num must be at least 2 images, but is {num}; leave it out for up to {LARGEST_NUM}.")
    opened = Run.open(run)
    results = results_of(opened, out)
    check_writable(results)
    trained = load(run, which=checkpoint, device=choose_device(use_gpu), weights=weights, data=data)
    held_out = images_of(opened, trained.config, "held_out")
    sets = {f"{path} [{split}]": _open(path, trained.config, split) for path in others}
    sets[f"training images, {trained.config.data.split}"] = images_of(opened, trained.config, "images")
    chosen = {name: choose(images, num, key=seed) for name, images in sets.items()}
    own = choose(held_out, num, key=seed)
    made = made_images(own.rows.shape + held_out.images.shape[1:], seed=seed)
    pictures = {name: images.images.images[images.rows] for name, images in chosen.items()} | made
    reference = energies(trained, held_out.images[own.rows])
    found = {
        name: {"num": len(images), "auroc": aurocs(reference, energies(trained, images))}
        for name, images in pictures.items()
    }
    identity = _identity(opened, trained, held_out, len(own.rows), seed)
    fingerprints = {name: images.content for name, images in sets.items()}
    record = {"identity": identity, "fingerprints": fingerprints, "against": found}
    name = f"{trained.checkpoint}-{trained.weights}-ood-n{len(own.rows)}-seed{seed}.json"
    return {**record, "file": write_record(results, name, record)}


def made_images(shape: Sequence[int], *, seed: int) -> dict[str, np.ndarray]:
    """Sets of N images that show nothing, uint8 [N, C, S, S]."""
    generator = np.random.Generator(np.random.Philox(key=seed))
    noise = generator.integers(256, size=tuple(shape), dtype=np.uint8)
    colours = generator.integers(256, size=(*shape[:2], 1, 1), dtype=np.uint8)
    return {"uniform noise": noise, "constant images": np.broadcast_to(colours, shape)}


def energies(trained: TrainedModel, images: np.ndarray) -> dict[str, np.ndarray]:
    """U of uint8 images [N, C, S, S] at every grid, and the sum of all: name to float64 [N].

    Raises UserError if one is not finite.
    """
    sizes, found = trained.config.grids.sizes, []
    with torch.no_grad(), frozen(trained.model):
        for first in range(0, len(images), _BATCH):
            levels = pyramid(as_floats(images[first : first + _BATCH]).to(trained.device), sizes)
            found.append(torch.stack([u(x) for u, x in zip(trained.model.grids, levels, strict=True)]).double().cpu())
    of_grids: Tensor = torch.cat(found, 1)
    if not of_grids.isfinite().all():
        raise UserError(f"Energies of {trained.checkpoint} are not all finite; take another --checkpoint.")
    named = {str(size): values.numpy() for size, values in zip(sizes, of_grids, strict=True)}
    return {**named, SUM: of_grids.sum(0).numpy()}


def aurocs(held_out: dict[str, np.ndarray], others: dict[str, np.ndarray]) -> dict[str, float]:
    """Of every grid and the sum: the chance that another image has a higher energy than a held-out one."""
    found = {}
    for name, own in held_out.items():
        is_other = np.repeat([0, 1], [len(own), len(others[name])])
        found[name] = float(roc_auc_score(is_other, np.concatenate([own, others[name]])))
    return found


def _open(path: str, config: Config, split: str) -> ImageSet:
    """Another data set, cropped and resized to the run's images."""
    return open_images(
        path,
        image_size=config.image_size,
        channels=config.data.channels,
        split=split,
        setting="--split",
        background=config.data.background,
        max_corrupt=config.data.max_corrupt,
    )


def _identity(run: Run, trained: TrainedModel, held_out: ImageSet, num: int, seed: int) -> dict[str, Any]:
    return {
        "run": run.name,
        "checkpoint": trained.checkpoint,
        "weights": trained.weights,
        "weights_sha256": trained.checksum,
        "held_out": f"{num} random images of {held_out.name}",
        "held_out_fingerprint": held_out.content,
        "score": "energy: the higher one is taken for the other image; sum: of all grids' energies, as they are",
        "seed": seed,
        "versions": {
            "distmgcd": __version__,
            "torch": str(torch.__version__),
            "scikit-learn": sklearn.__version__,
            "python": platform.python_version(),
        },
    }
