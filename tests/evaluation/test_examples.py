"""A contact sheet of images as they are in a data set: of any sizes, grey and colour."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distmgcd.evaluation.pictures.sheet import GAP_LEVEL, save_examples


def test_examples_of_different_sizes_and_colours_share_a_sheet_unchanged(tmp_path: Path):
    grey = np.full((4, 2, 1), 200, np.uint8)
    colour = np.broadcast_to(np.array([255, 0, 10], np.uint8), (2, 6, 3))
    save_examples([grey, colour], tmp_path / "sheet.png", gap=0)
    with Image.open(tmp_path / "sheet.png") as sheet:
        pixels = np.asarray(sheet)
    scale = pixels.shape[0] // 4
    small = pixels[::scale, ::scale]
    assert small.shape == (4, 12, 3)
    assert (small[:, 2:4] == 200).all() and (small[:, [0, 1, 4, 5]] == GAP_LEVEL).all()
    assert (small[1:3, 6:] == [255, 0, 10]).all() and (small[[0, 3], 6:] == GAP_LEVEL).all()


def test_a_sheet_of_no_example_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="at least one"):
        save_examples([], tmp_path / "sheet.png")
