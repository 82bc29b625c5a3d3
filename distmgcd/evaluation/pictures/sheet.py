"""Contact sheets: many samples in one PNG, every tile on the same fixed scale from -1 (black) to 1 (white).

A tile is never stretched to its own range, so a washed-out sample looks washed out. Images are [N, C, s, s],
C = 1 or 3: float in [-1, 1], or uint8.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

GAP_LEVEL = 64  # dark grey: tells a black tile from a white one
_WIDEST = 900  # pixels; a sheet is enlarged up to this


def save_sheet(
    images: Tensor | np.ndarray,
    path: str | Path | BinaryIO,
    *,
    columns: int | None = None,
    gap: int = 2,
    scale: int | None = None,
) -> None:
    """Write the images as a PNG, row by row, with a gap of dark grey around every tile.

    columns: tiles in a row; as many as rows by default. gap: in pixels of the sheet. scale: pixels of the sheet
    to a pixel of an image; by default the largest whole number with which the sheet is at most 900 wide. Raises
    ValueError if there is no image, or if they are neither grey nor colour.
    """
    tiles = to_levels(images)
    columns = columns or math.ceil(math.sqrt(len(tiles)))
    scale = scale or max(1, (_WIDEST - gap * (columns + 1)) // (columns * tiles.shape[2]))
    sheet = _arrange(_enlarge(tiles, scale), columns, gap)
    Image.fromarray(sheet.squeeze(2) if sheet.shape[2] == 1 else sheet).save(path, format="PNG")


def save_pyramid_sheet(levels: Sequence[Tensor | np.ndarray], path: str | Path | BinaryIO, *, gap: int = 2) -> None:
    """Write the same samples at every grid as a PNG: a row a grid, coarse to fine, and a column a sample.

    levels: G of [N, C, s, s]. Every tile is enlarged to the finest size, which each size divides, then the sheet
    as in save_sheet.
    """
    finest = levels[-1].shape[-1]
    rows = [_enlarge(to_levels(images), finest // images.shape[-1]) for images in levels]
    save_sheet(np.concatenate(rows).transpose(0, 3, 1, 2), path, columns=len(rows[0]), gap=gap)


def save_examples(examples: Sequence[np.ndarray], path: str | Path | BinaryIO, *, gap: int = 2) -> None:
    """Write images of a data set as a PNG, each in its own size in the middle of a tile of the largest.

    examples: each uint8 [H, W, C], C = 1 or 3; grey ones become colour where both are there. Raises ValueError if
    there is none.
    """
    if not examples:
        raise ValueError("A sheet needs at least one example.")
    height, width, channels = (max(example.shape[axis] for example in examples) for axis in range(3))
    tiles = np.full((len(examples), channels, height, width), GAP_LEVEL, np.uint8)
    for tile, example in zip(tiles, examples, strict=True):
        top, left = (height - example.shape[0]) // 2, (width - example.shape[1]) // 2
        tile[:, top : top + example.shape[0], left : left + example.shape[1]] = np.moveaxis(example, 2, 0)
    save_sheet(tiles, path, gap=gap)


def to_levels(images: Tensor | np.ndarray) -> np.ndarray:
    """Images [N, C, s, s] as uint8 [N, s, s, C]. 256 equal cells of [-1, 1], as learning.observe fills them.

    Values outside [-1, 1] are black or white; what is not a number is black. Raises ValueError as save_sheet.
    """
    if len(images) == 0 or images.shape[1] not in (1, 3):
        raise ValueError(f"A sheet needs images [N, C, s, s] with N >= 1 and C = 1 or 3, but got {list(images.shape)}.")
    return as_levels(torch.as_tensor(images).detach().cpu()).permute(0, 2, 3, 1).numpy()


def as_levels(images: Tensor) -> Tensor:
    """uint8 of any shape: which of 256 equal cells of [-1, 1] a value is in. uint8 stays as it is."""
    if images.dtype == torch.uint8:
        return images
    return ((images.float() + 1.0) * 128.0).nan_to_num(0.0).floor().clamp(0, 255).to(torch.uint8)


def _enlarge(tiles: np.ndarray, scale: int) -> np.ndarray:
    """Constant boxes: [N, h, w, C] to [N, scale h, scale w, C]."""
    return tiles.repeat(scale, axis=1).repeat(scale, axis=2)


def _arrange(tiles: np.ndarray, columns: int, gap: int) -> np.ndarray:
    """Tiles [N, h, w, C] laid out row by row: one array [H, W, C]."""
    num_tiles, height, width, channels = tiles.shape
    rows = -(-num_tiles // columns)
    shape = (rows * (height + gap) + gap, columns * (width + gap) + gap, channels)
    sheet = np.full(shape, GAP_LEVEL, np.uint8)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        top, left = gap + row * (height + gap), gap + column * (width + gap)
        sheet[top : top + height, left : left + width] = tile
    return sheet
