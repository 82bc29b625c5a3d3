"""Strips: every picture where it belongs, unchanged by text and frames; what does not fit is left out evenly."""

import numpy as np
import pytest
import torch
from PIL import Image

from distmgcd.evaluation.pictures.strip import (
    GAP,
    LINE_HEIGHT,
    MARGIN,
    ROW_GAP,
    TITLE_HEIGHT,
    Row,
    Strip,
    left_of,
    save_strips,
    tile_size,
)

RED = [255, 60, 60]


def row(num: int, size: int, *, channels: int = 1, marked: tuple[int, ...] = (), lines: int = 2) -> Row:
    """Of flat pictures, the number of each its grey level."""
    pictures = torch.arange(num, dtype=torch.uint8).view(num, 1, 1, 1).expand(num, channels, size, size)
    below = ["\n".join(["U -1.2e+05"] * lines)] * num
    return Row(f"{size}x{size}", pictures, [str(i) for i in range(num)], below, [i in marked for i in range(num)])


def page_of(tmp_path, *rows: Row, strips: int = 1) -> np.ndarray:
    save_strips([Strip("a title", rows)] * strips, tmp_path / "page.png")
    with Image.open(tmp_path / "page.png") as page:
        return np.asarray(page)


def tiles_of(page: np.ndarray, *, top: int, num: int, tile: int) -> list[np.ndarray]:
    """The tiles of a row; the last one stands a little further to the right."""
    lefts = [left_of(number, tile) for number in range(num - 1)] + [left_of(num - 1, tile) + GAP]
    return [page[top : top + tile, left : left + tile] for left in lefts]


TOP = MARGIN + TITLE_HEIGHT + LINE_HEIGHT  # of the first row's tiles


@pytest.mark.parametrize(("size", "tile"), [(4, 64), (7, 63), (8, 64), (64, 64), (128, 128)])
def test_a_tile_is_a_whole_number_of_pixels_a_pixel(size, tile):
    assert tile_size(size) == tile


def test_every_picture_stands_whole_in_its_place_and_the_last_one_apart(tmp_path):
    page = page_of(tmp_path, row(4, 2), row(6, 8, marked=(2,)))
    step = LINE_HEIGHT + 64 + 2 * LINE_HEIGHT + ROW_GAP
    assert page.shape == (MARGIN + TITLE_HEIGHT + 2 * step + MARGIN, left_of(5, 64) + 64 + GAP + 2 * MARGIN, 3)
    for number, tile in enumerate(tiles_of(page, top=TOP + step, num=6, tile=64)):
        assert (tile == number).all()
    for number, tile in enumerate(tiles_of(page, top=TOP, num=6, tile=64)):  # a shorter row ends where the others do
        assert (tile == {0: 0, 1: 1, 2: 2, 5: 3}.get(number, tile[0, 0])).all()


def test_a_coarse_picture_is_enlarged_to_the_finest_in_constant_boxes(tmp_path):
    pictures = torch.tensor([[0, 50], [100, 150]], dtype=torch.uint8).expand(2, 3, 2, 2)
    page = page_of(tmp_path, Row("2x2", pictures, ["", ""], ["", ""], [False] * 2), row(2, 8))
    assert page[TOP : TOP + 64, left_of(0, 64) :][:64:32, :64:32, 1].tolist() == [[0, 50], [100, 150]]
    assert (page[TOP + 32 : TOP + 64, left_of(0, 64) : left_of(0, 64) + 32] == 100).all()


def test_colours_keep_their_channels(tmp_path):
    pictures = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    pictures[0] = torch.tensor([10, 20, 30])[:, None, None]
    page = page_of(tmp_path, Row("4x4", pictures, ["", ""], ["", ""], [False] * 2))
    assert (tiles_of(page, top=TOP, num=2, tile=64)[0] == [10, 20, 30]).all()


def test_a_marked_picture_has_a_red_frame_around_it_and_others_have_none(tmp_path):
    page = page_of(tmp_path, row(4, 8, marked=(1,)))
    left = left_of(1, 64)
    for edge in (page[TOP - 2 : TOP, left : left + 64], page[TOP : TOP + 64, left - 2 : left]):
        assert (edge == RED).all()
    assert (tiles_of(page, top=TOP, num=4, tile=64)[1] == 1).all()
    assert not (page[TOP : TOP + 64, : left_of(0, 64)] == RED).all(-1).any()


def test_steps_that_do_not_fit_are_left_out_evenly_but_not_the_ends_nor_the_first_marked(tmp_path):
    page = page_of(tmp_path, row(202, 8, marked=(33, 34)))
    columns = (page.shape[1] - 2 * MARGIN - GAP - left_of(0, 64) + MARGIN) // (64 + GAP)
    assert page.shape[1] <= 1720 and 20 < columns < 30
    shown = [int(tile[0, 0, 0]) for tile in tiles_of(page, top=TOP, num=columns, tile=64)]
    assert shown[0] == 0 and shown[-2:] == [200, 201] and 33 in shown and shown == sorted(set(shown))
    assert max(np.diff(shown[:-1])) <= 2 * 200 / (columns - 2)


def test_strips_stand_below_one_another(tmp_path):
    one, three = page_of(tmp_path, row(3, 8)), page_of(tmp_path, row(3, 8), strips=3)
    height = len(one) - MARGIN
    assert len(three) == 3 * height + MARGIN
    assert all(np.array_equal(three[i * height : (i + 1) * height], one[:height]) for i in range(3))


def test_a_page_without_a_strip_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one"):
        save_strips([], tmp_path / "page.png")
