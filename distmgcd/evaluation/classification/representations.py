"""What describes an image before it is classified: the maps of a run's networks, of random ones, or its pixels.

The feature maps of all grids, pooled to a few cells: the image is box-averaged to every grid, goes through that grid's
network, and the map of its last convolution, or the maps of all of them, are max-pooled to at most cells x cells
places, as Radford et al. 2016 (arXiv 1511.06434, section 5.1) pool the maps of a discriminator before a linear
classifier. Gao et al. 2017 (arXiv 1709.08868) classify by the features of all grids together. Maps that are smaller
than the cells stay as they are.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from distmgcd.core.energy import ConvEnergy, MultiGridEnergy, frozen
from distmgcd.core.grids import expand, pyramid
from distmgcd.data import ImageSet
from distmgcd.errors import UserError
from distmgcd.models.assemble import make_model
from distmgcd.models.run_images import images_of
from distmgcd.models.sampling import as_floats
from distmgcd.models.trained_model import TrainedModel, Weights, load
from distmgcd.runs.run_folder import Run

_BATCH = 256
Layers = Literal["last", "all"]


@dataclass(frozen=True)
class Representation:
    name: str
    about: dict[str, Any]  # for the record: all that its numbers depend on, protocol apart
    maps_of: Callable[[Tensor], list[Tensor]]  # of images [B, C, S, S] in [-1, 1]: maps [B, D, c, c]
    device: torch.device

    def maps_of_rows(self, images: ImageSet, rows: np.ndarray) -> list[Tensor]:
        """Maps [N, D, c, c] of these images, on the CPU."""
        batches = np.split(rows, range(_BATCH, len(rows), _BATCH))
        found = [self.maps_of(as_floats(images.images[batch]).to(self.device)) for batch in batches]
        return [torch.cat([maps.float().cpu() for maps in parts]) for parts in zip(*found, strict=True)]


def of_pixels(*, cells: int, device: torch.device) -> Representation:
    about = {"kind": "the pixels themselves"}
    return Representation("raw pixels", about, lambda images: pixel_maps(images, cells=cells), device)


def of_random_networks(trained: TrainedModel, num: int, *, cells: int, layers: Layers) -> Iterator[Representation]:
    """Networks of the run's shape as they are before training, from other seeds than the run's own."""
    for number in range(1, num + 1):
        config = trained.config.model_copy(update={"seed": trained.config.seed + number})
        model = make_model(config).to(trained.device).eval()
        about = {"kind": "networks of the run's shape, untrained", "initialised_with_seed": config.seed}
        yield _of_networks(f"random networks, seed {config.seed}", about, model, trained, cells, layers)


def of_trained(trained: TrainedModel, name: str, *, cells: int, layers: Layers) -> Representation:
    about = {
        "kind": "trained networks",
        "run": name,
        "start.kind": trained.config.start.kind,
        "checkpoint": trained.checkpoint,
        "weights": trained.weights,
        "weights_sha256": trained.checksum,
    }
    return _of_networks(name, about, trained.model, trained, cells, layers)


def _of_networks(
    name: str, about: dict[str, Any], model: MultiGridEnergy, trained: TrainedModel, cells: int, layers: Layers
) -> Representation:
    sizes, norm = trained.config.grids.sizes, trained.config.network.norm
    about = {**about, "grids": list(sizes)}
    if norm == "batch":
        about["batch norm"] = f"by the statistics of {_BATCH} labelled images at a time, in the order of the file"

    def maps_of(images: Tensor) -> list[Tensor]:
        return grid_maps(model, images, sizes=sizes, cells=cells, layers=layers)

    return Representation(name, about, maps_of, trained.device)


def load_others(
    paths: list[str],
    wanted: tuple[ImageSet, ImageSet],
    own_path: str,
    *,
    device: torch.device,
    weights: Weights,
    data: str | None,
) -> list[tuple[str, TrainedModel]]:
    """(name, newest checkpoint) of each run to compare with. Raises UserError if one is of other images than wanted."""
    names = [Path(path).name for path in (own_path, *paths)]
    found = []
    for path, name in zip(paths, names[1:], strict=True):
        other = load(path, device=device, weights=weights, data=data)
        theirs = (images_of(Run.open(path), other.config, which) for which in ("images", "held_out"))
        for ours, its, what in zip(wanted, theirs, ("trained on", "held against"), strict=True):
            if ours.content != its.content:
                raise UserError(
                    f"--against {path} is {what} {its.name} at {its.image_size}x{its.image_size}, but {own_path} "
                    f"{ours.name} at {ours.image_size}x{ours.image_size}; compare runs on the same images and splits."
                )
        found.append((name if names.count(name) == 1 else path, other))
    return found


def grid_maps(
    model: MultiGridEnergy, images: Tensor, *, sizes: Sequence[int], cells: int, layers: Layers = "last"
) -> list[Tensor]:
    """Maps [B, D, c, c] with c <= cells of images [B, C, S, S] in [-1, 1]: grids coarse to fine, layers bottom up."""
    found = []
    with torch.no_grad(), frozen(model):
        for energy, level in zip(model.grids, pyramid(images, sizes), strict=True):
            assert isinstance(energy, ConvEnergy)
            of_grid = energy.maps(level)
            found += [_pooled(each, cells) for each in (of_grid if layers == "all" else of_grid[-1:])]
    return found


def pixel_maps(images: Tensor, *, cells: int) -> list[Tensor]:
    """The pixels themselves, those of a block as the channels of its cell: one map [B, C b b, c, c] with b = S / c."""
    size = images.shape[-1]
    cells = next(number for number in range(min(cells, size), 0, -1) if size % number == 0)
    return [F.pixel_unshuffle(images, size // cells)]


def as_vectors(maps: Sequence[Tensor]) -> Tensor:
    """All values of all maps in one row an image: [B, sum of D c c]."""
    return torch.cat([each.flatten(1) for each in maps], 1)


def as_one_map(maps: Sequence[Tensor]) -> Tensor:
    """All maps as channels of one [B, sum of D, c, c] of the largest c; smaller ones are enlarged."""
    size = max(each.shape[-1] for each in maps)
    return torch.cat([_enlarged(each, size) for each in maps], 1)


def _pooled(maps: Tensor, cells: int) -> Tensor:
    return maps if maps.shape[-1] <= cells else F.adaptive_max_pool2d(maps, cells)


def _enlarged(maps: Tensor, size: int) -> Tensor:
    return expand(maps, size) if size % maps.shape[-1] == 0 else F.interpolate(maps, (size, size))
