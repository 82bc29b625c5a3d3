"""Strips: how pictures came about, step by step, in one PNG. A strip an image, a row a grid, a column a step.

Every tile is on the fixed scale from -1 (black) to 1 (white), as in sheet.py, and no text or frame covers a picture.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from distmgcd.evaluation.pictures.sheet import to_levels

MARGIN = 8  # pixels around the page and between strips
LABEL_WIDTH = 44  # left of the tiles
GAP = 6  # between two tiles; a frame fits in it
TITLE_HEIGHT = 20
LINE_HEIGHT = 12  # of small text
ROW_GAP = 12  # below the small text of a row
_TILE = 64  # least size of the finest tile, by enlarging it a whole number of times
_WIDEST = 1700  # pixels of the page, before steps are left out

_PAGE = (38, 46, 70)  # a blue, so that the edge of a grey picture can be seen
_TEXT, _RED = (225, 225, 225), (255, 60, 60)


class Row(NamedTuple):
    """What happened at one grid."""

    label: str
    pictures: Tensor  # [N, C, s, s] in [-1, 1], C = 1 or 3
    above: Sequence[str]  # N short texts, such as the number of the step
    below: Sequence[str]  # N texts of a few short lines, the same number in every row
    marked: Sequence[bool]  # N, whether a tile is framed in red
    last_is_aside: bool = True  # the last picture stands apart, in a column of its own

    @classmethod
    def plain(cls, label: str, pictures: Tensor, *, above: Sequence[str] = (), below: Sequence[str] = ()) -> "Row":
        """A row of equal pictures, none of them marked or aside, with texts above and below where they are given."""
        none = [""] * len(pictures)
        return cls(label, pictures, above or none, below or none, [False] * len(pictures), last_is_aside=False)


class Strip(NamedTuple):
    title: str
    rows: Sequence[Row]  # coarse to fine; each size divides the next


def save_strips(strips: Sequence[Strip], path: str | Path | BinaryIO) -> None:
    """Write the strips as a PNG, one below the other, all of one finest size.

    Where a row has more pictures than fit on a page, evenly chosen ones are left out; the first and the last are
    shown, and the first marked one. Raises ValueError if there is no strip.
    """
    if not strips:
        raise ValueError("A page of strips needs at least one.")
    tile = tile_size(strips[0].rows[-1].pictures.shape[-1])
    fitting = max(4, (_WIDEST - 2 * MARGIN - LABEL_WIDTH) // (tile + GAP))
    strips = [strip._replace(rows=[_thinned(row, fitting) for row in strip.rows]) for strip in strips]
    columns = max(len(row.pictures) for strip in strips for row in strip.rows)
    height = MARGIN + sum(_height(strip, tile) + MARGIN for strip in strips)
    page = Image.new("RGB", (left_of(columns - 1, tile) + tile + GAP + 2 * MARGIN, height), _PAGE)
    top = MARGIN
    for strip in strips:
        _draw_strip(page, strip, top, tile, columns)
        top += _height(strip, tile) + MARGIN
    page.save(path, format="PNG")


def strips_as_png(strips: Sequence[Strip]) -> bytes:
    """The page that save_strips writes."""
    file = io.BytesIO()
    save_strips(strips, file)
    return file.getvalue()


def tile_size(size: int) -> int:
    """Pixels a side of every tile, for a finest grid of this size."""
    return size * max(1, _TILE // size)


def left_of(column: int, tile: int) -> int:
    """Where a column of tiles begins."""
    return MARGIN + LABEL_WIDTH + column * (tile + GAP)


def row_height(row: Row, tile: int) -> int:
    return LINE_HEIGHT + tile + _num_lines(row) * LINE_HEIGHT + ROW_GAP


def _height(strip: Strip, tile: int) -> int:
    return TITLE_HEIGHT + sum(row_height(row, tile) for row in strip.rows)


def _num_lines(row: Row) -> int:
    return max((text.count("\n") + 1 for text in row.below if text), default=0)


def _thinned(row: Row, num: int) -> Row:
    """At most num pictures of a row."""
    if len(row.pictures) <= num:
        return row
    aside = [len(row.pictures) - 1] if row.last_is_aside else []
    chosen = np.linspace(0, len(row.pictures) - 1 - len(aside), num - len(aside)).round().astype(int)
    first_marked = next((number for number, marked in enumerate(row.marked) if marked), 0)
    if first_marked not in chosen and first_marked not in aside:
        chosen[1 + np.abs(chosen[1:-1] - first_marked).argmin()] = first_marked
    kept = [*chosen.tolist(), *aside]
    above, below, marked = ([values[number] for number in kept] for values in (row.above, row.below, row.marked))
    return row._replace(pictures=row.pictures[kept], above=above, below=below, marked=marked)


def _draw_strip(page: Image.Image, strip: Strip, top: int, tile: int, columns: int) -> None:
    draw = ImageDraw.Draw(page)
    draw.text((MARGIN, top), strip.title, fill=_TEXT, font=ImageFont.load_default(13))
    top += TITLE_HEIGHT
    for row in strip.rows:
        middle = top + LINE_HEIGHT + tile // 2
        draw.text((MARGIN, middle), row.label, fill=_TEXT, font=ImageFont.load_default(12), anchor="lm")
        for number, levels in enumerate(to_levels(row.pictures)):
            aside = row.last_is_aside and number == len(row.pictures) - 1
            left = left_of(columns - 1, tile) + GAP if aside else left_of(number, tile)
            _draw_tile(page, draw, levels, (left, top), tile, row, number)
        top += row_height(row, tile)


def _draw_tile(
    page: Image.Image,
    draw: ImageDraw.ImageDraw,
    levels: np.ndarray,
    corner: tuple[int, int],
    tile: int,
    row: Row,
    number: int,
) -> None:
    """levels: uint8 [s, s, C]. Text above, the picture, text below; nothing wider than the tile."""
    left, top = corner
    small = ImageFont.load_default(10)
    colour = _RED if row.marked[number] else _TEXT
    draw.text((left + tile // 2, top + LINE_HEIGHT - 4), row.above[number], fill=colour, font=small, anchor="ms")
    top += LINE_HEIGHT
    if row.marked[number]:
        draw.rectangle((left - 2, top - 2, left + tile + 1, top + tile + 1), fill=_RED)
    factor = tile // levels.shape[0]
    picture = np.broadcast_to(levels.repeat(factor, 0).repeat(factor, 1), (tile, tile, 3))
    page.paste(Image.fromarray(np.ascontiguousarray(picture)), (left, top))
    for line, text in enumerate(row.below[number].split("\n"), start=1):
        place = (left + tile // 2, top + tile + line * LINE_HEIGHT - 1)
        draw.text(place, text, fill=colour, font=small, anchor="ms")
