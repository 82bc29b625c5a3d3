"""Contact sheets: every pixel where it belongs, on one fixed scale."""

import numpy as np
import pytest
import torch
from PIL import Image

from distmgcd.evaluation.pictures.sheet import GAP_LEVEL, save_pyramid_sheet, save_sheet, to_levels


def read(path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.mark.parametrize(("value", "level"), [(-1.0, 0), (-0.5, 64), (0.0, 128), (0.25, 160), (1.0, 255)])
def test_a_flat_grey_tile_stays_that_grey(tmp_path, value, level):
    save_sheet(torch.full((1, 1, 4, 4), value), tmp_path / "sheet.png", gap=3, scale=2)
    sheet = read(tmp_path / "sheet.png")
    assert sheet.shape == (14, 14)
    assert (sheet[3:-3, 3:-3] == level).all()


def test_tiles_are_not_stretched_to_their_own_range(tmp_path):
    faint = torch.zeros(2, 1, 2, 2)
    faint[0, 0, 0, 0] = 2 / 128
    faint[1, 0, 0, 0] = 1.0
    save_sheet(faint, tmp_path / "sheet.png", columns=2, gap=1, scale=1)
    assert read(tmp_path / "sheet.png")[1:3].tolist() == [
        [64, 130, 128, 64, 255, 128, 64],
        [64, 128, 128, 64, 128, 128, 64],
    ]


def test_every_tile_stands_row_by_row_with_a_gap_around_it(tmp_path):
    tiles = torch.arange(5, dtype=torch.uint8).view(5, 1, 1, 1).expand(5, 1, 2, 2) * 10
    save_sheet(tiles, tmp_path / "sheet.png", columns=3, gap=1, scale=1)
    g = GAP_LEVEL
    empty, upper, lower = [g] * 10, [g, 0, 0, g, 10, 10, g, 20, 20, g], [g, 30, 30, g, 40, 40, g, g, g, g]
    assert read(tmp_path / "sheet.png").tolist() == [empty, upper, upper, empty, lower, lower, empty]


def test_colours_keep_their_channels_and_pixels_become_boxes(tmp_path):
    image = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    image[0, :, 0, 1] = torch.tensor([200, 100, 50])
    save_sheet(image.numpy(), tmp_path / "sheet.png", gap=2, scale=3)
    sheet = read(tmp_path / "sheet.png")
    assert sheet.shape == (10, 10, 3)
    assert (sheet[2:5, 5:8] == [200, 100, 50]).all() and (sheet[5:8, 2:8] == 0).all()
    assert (sheet[:2] == GAP_LEVEL).all() and (sheet[:, 8:] == GAP_LEVEL).all()


@pytest.mark.parametrize(("count", "size"), [(64, 16), (25, 4), (100, 32), (1, 8), (16, 64)])
def test_a_sheet_is_enlarged_to_fill_a_page_but_no_wider(tmp_path, count, size):
    save_sheet(torch.zeros(count, 1, size, size), tmp_path / "sheet.png")
    assert 600 <= read(tmp_path / "sheet.png").shape[1] <= 900 or size * count**0.5 > 300


def test_many_large_tiles_are_not_enlarged(tmp_path):
    save_sheet(torch.zeros(20, 1, 64, 64), tmp_path / "sheet.png", columns=20, gap=1)
    assert read(tmp_path / "sheet.png").shape == (66, 20 * 65 + 1)


def test_levels_undo_the_way_that_training_maps_them():
    levels = torch.arange(256).view(4, 1, 8, 8)
    for within in (0.001, 0.5, 0.999):  # learning.observe puts a level's pixels anywhere inside it
        assert np.array_equal(to_levels((levels + within) / 128 - 1).ravel(), np.arange(256))


def test_values_outside_the_range_are_black_or_white_and_nan_is_black():
    values = torch.tensor([-3.0, 3.0, float("inf"), float("nan")]).view(1, 1, 2, 2)
    assert to_levels(values).ravel().tolist() == [0, 255, 255, 0]


def test_a_pyramid_sheet_has_a_row_a_grid_and_a_column_a_sample(tmp_path):
    coarse = torch.tensor([10, 20], dtype=torch.uint8).view(2, 1, 1, 1)
    fine = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]], dtype=torch.uint8).view(2, 1, 2, 2)
    save_pyramid_sheet([coarse, fine], tmp_path / "sheet.png", gap=100)
    sheet = read(tmp_path / "sheet.png")
    tile = (sheet.shape[1] - 300) // 2
    assert sheet.shape == (300 + 2 * tile, 300 + 2 * tile) and tile == 300
    first, second = slice(100, 400), slice(500, 800)
    assert (sheet[first, first] == 10).all() and (sheet[first, second] == 20).all()
    assert sheet[second, second][::150, ::150].tolist() == [[5, 6], [7, 8]]


@pytest.mark.parametrize("shape", [(0, 1, 4, 4), (2, 2, 4, 4)])
def test_what_cannot_be_drawn_is_refused(tmp_path, shape):
    with pytest.raises(ValueError, match="C = 1 or 3"):
        save_sheet(torch.zeros(shape), tmp_path / "sheet.png")
