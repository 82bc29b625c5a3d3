"""Fills and their scores, by numbers that can be worked out, and mask files."""

import math
from pathlib import Path

import pytest
import torch
from PIL import Image

from distmgcd.errors import UserError
from distmgcd.evaluation.inpainting.fills import biharmonic_fill, image_errors, mean_fill, read_mask, score_fill

HIDDEN = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
HIDDEN[0, :, 1:3, 1:3] = True
HIDDEN[1, :, 0, 0] = True
IMAGES = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_error_and_psnr_are_of_hidden_values_in_units_of_the_whole_range():
    filled = IMAGES.clone()
    filled += torch.where(HIDDEN, 0.0, 5.0)  # known pixels do not count
    assert score_fill(filled, IMAGES, HIDDEN) == (0.0, 0.0, math.inf)
    dark = torch.full_like(IMAGES, -0.5)
    for difference in (0.2, -0.2):  # a tenth of the range: 20 dB
        found = score_fill(dark + difference, dark, HIDDEN)
        assert found == pytest.approx((0.1, 0.0, 20.0), abs=1e-6)


def test_a_score_is_the_mean_over_hidden_values_and_its_deviation_is_over_images():
    dark = torch.full_like(IMAGES, -0.5)
    filled = dark + torch.tensor([0.4, 0.8])[:, None, None, None]
    assert image_errors(filled, dark, HIDDEN).tolist() == pytest.approx([0.2, 0.4])
    error, deviation, psnr = score_fill(filled, dark, HIDDEN)  # four hidden pixels and one
    assert error == pytest.approx((4 * 0.2 + 0.4) / 5) and deviation == pytest.approx(0.1 * math.sqrt(2))
    assert psnr == pytest.approx(-10 * math.log10((4 * 0.04 + 0.16) / 5), abs=1e-5)


def test_what_is_beyond_black_and_white_counts_as_these_and_what_is_no_number_as_black():
    dark = torch.full_like(IMAGES, -0.5)
    for value, error in ((7.0, 0.75), (-7.0, 0.25), (math.nan, 0.25)):
        assert score_fill(torch.full_like(dark, value), dark, HIDDEN).error == pytest.approx(error)


def test_the_mean_fill_is_the_mean_of_known_pixels_by_channel():
    filled = mean_fill(IMAGES, HIDDEN)
    assert torch.equal(filled.masked_select(~HIDDEN), IMAGES.masked_select(~HIDDEN))
    known = IMAGES[1, 2].flatten()[1:]
    assert filled[1, 2, 0, 0].item() == pytest.approx(known.mean().item())


def test_the_biharmonic_fill_goes_on_with_a_plane():
    pytest.importorskip("skimage", reason="scikit-image is not installed")
    places = torch.linspace(-1, 1, 16)
    plane = (0.4 * places[:, None] - 0.5 * places[None, :]).expand(2, 3, 16, 16)
    hidden = torch.zeros(2, 1, 16, 16, dtype=torch.bool)
    hidden[:, :, 5:9, 6:11] = True
    filled = biharmonic_fill(torch.where(hidden, 9.0, plane), hidden)
    torch.testing.assert_close(filled, plane, rtol=0, atol=1e-4)


# Mask files


def test_light_pixels_of_a_mask_file_are_hidden(tmp_path: Path):
    painted = Image.new("RGB", (4, 4))
    painted.putpixel((3, 0), (255, 255, 255))
    painted.save(tmp_path / "mask.png")
    hidden = read_mask(str(tmp_path / "mask.png"), 4)
    assert hidden.shape == (1, 4, 4) and hidden.nonzero().tolist() == [[0, 0, 3]]


def test_a_mask_file_that_cannot_be_used_is_one_sentence(tmp_path: Path):
    (tmp_path / "text.png").write_text("no picture")
    Image.new("L", (5, 4)).save(tmp_path / "other.png")
    Image.new("L", (4, 4), 255).save(tmp_path / "white.png")
    Image.new("L", (4, 4)).save(tmp_path / "black.png")
    for name, words in (
        ("none.png", "must be square, doodle, pepper or an image file, but .* is no such name and no file"),
        ("text.png", "is no image file that can be read"),
        ("other.png", "size of the run's images, 4x4, but has 5x4"),
        ("white.png", "every pixel is white"),
        ("black.png", "no pixel is white"),
    ):
        with pytest.raises(UserError, match=words) as found:
            read_mask(str(tmp_path / name), 4)
        assert "\n" not in str(found.value)
