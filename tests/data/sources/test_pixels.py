"""Decoding, channels and sizes of single images."""

import io

import numpy as np
import pytest
from PIL import Image
from small_images import encoded, png, random_images

from distmgcd.data.sources import pixels
from distmgcd.data.sources.source import CorruptImage


def test_a_png_gives_back_its_pixels():
    colour = random_images(1)[0]
    np.testing.assert_array_equal(pixels.to_array(pixels.decode(png(colour))), np.moveaxis(colour, 2, 0))
    grey = random_images(1, channels=1)[0]
    np.testing.assert_array_equal(pixels.to_array(pixels.decode(png(grey))), grey[np.newaxis])


def test_shrinking_by_a_whole_number_is_the_mean_of_each_box():
    image = random_images(1, size=12, channels=1)[0]
    small = np.asarray(pixels.fit(Image.fromarray(image), 4))
    means = image.reshape(4, 3, 4, 3).mean(axis=(1, 3))
    assert np.abs(small - means).max() < 0.6  # half a level, and the last bit of Pillow's integer arithmetic


def test_enlarging_keeps_a_flat_image_flat_and_an_equal_size_keeps_every_pixel():
    flat = Image.new("RGB", (3, 3), (10, 20, 30))
    assert np.asarray(pixels.fit(flat, 9)).reshape(-1, 3).tolist() == [[10, 20, 30]] * 81
    same = Image.fromarray(random_images(1)[0])
    assert pixels.fit(same, 8).tobytes() == same.tobytes()


def test_an_oblong_image_is_cut_to_its_centre_square():
    image = np.zeros((4, 10), np.uint8)
    image[:, 3:7] = 200
    np.testing.assert_array_equal(np.asarray(pixels.fit(Image.fromarray(image), 4)), np.full((4, 4), 200))
    np.testing.assert_array_equal(np.asarray(pixels.fit(Image.fromarray(image.T.copy()), 2)), np.full((2, 2), 200))


@pytest.mark.parametrize(
    ("mode", "channels"),
    [("1", 1), ("L", 1), ("LA", 1), ("I;16", 1), ("RGB", 3), ("RGBA", 3), ("P", 3)],
)
def test_the_mode_of_the_file_says_whether_it_is_grey_or_colour(mode, channels):
    assert pixels.num_channels(pixels.decode(encoded(Image.new(mode, (4, 4))))) == channels


def test_cmyk_is_colour_and_16_bits_scale_to_8():
    assert pixels.decode(encoded(Image.new("CMYK", (4, 4), (255, 0, 0, 0)), "TIFF")).getpixel((0, 0)) == (0, 255, 255)
    deep = Image.fromarray(np.array([[0, 257, 32896, 65535]], np.uint16))
    assert np.asarray(pixels.decode(encoded(deep))).tolist() == [[0, 1, 128, 255]]


def test_transparency_is_laid_over_the_background():
    half = pixels.decode(encoded(Image.new("RGBA", (2, 2), (200, 100, 50, 128))))
    assert pixels.over(half, "black").getpixel((0, 0)) == (100, 50, 25)
    assert pixels.over(half, "white").getpixel((0, 0)) == (227, 177, 152)
    assert pixels.over(half, "#0000ff").getpixel((0, 0)) == (100, 50, 152)
    clear = pixels.decode(encoded(Image.new("LA", (2, 2), (200, 0))))
    assert [pixels.over(clear, colour).getpixel((0, 0)) for colour in ("black", "white")] == [0, 255]
    assert (half.mode, clear.mode, pixels.num_channels(half), pixels.num_channels(clear)) == ("RGBA", "LA", 3, 1)
    assert (pixels.fraction_clear(half), pixels.fraction_clear(clear)) == (0.0, 1.0)


def test_an_alpha_channel_that_hides_nothing_is_dropped():
    for mode, wanted in (("RGBA", "RGB"), ("LA", "L")):
        assert pixels.decode(encoded(Image.new(mode, (2, 2), (7,) * (len(mode) - 1) + (255,)))).mode == wanted


def test_one_see_through_colour_is_transparency():
    grey = Image.new("L", (2, 1), 9)
    grey.putpixel((0, 0), 5)
    file = io.BytesIO()
    grey.save(file, format="PNG", transparency=9)
    found = pixels.decode(file.getvalue())
    assert found.mode == "LA" and np.asarray(pixels.over(found, "white")).tolist() == [[5, 255]]


def test_grey_conversion_is_luma_and_colour_conversion_repeats():
    red = Image.new("RGB", (1, 1), (255, 0, 0))
    assert pixels.with_channels(red, 1).getpixel((0, 0)) == round(0.299 * 255)
    assert pixels.with_channels(Image.new("L", (1, 1), 7), 3).getpixel((0, 0)) == (7, 7, 7)


@pytest.mark.parametrize("broken", [b"", b"not an image", png(random_images(1, size=64)[0])[:900]])
def test_broken_bytes_are_a_corrupt_image_with_a_reason(broken):
    with pytest.raises(CorruptImage, match=r"no image file Pillow knows|does not decode|file is empty"):
        pixels.decode(broken)


def test_floating_point_pixels_are_corrupt():
    with pytest.raises(CorruptImage, match="no agreed range"):
        pixels.decode(encoded(Image.new("F", (2, 2)), "TIFF"))


def test_raw_pixels_are_read_in_every_order_of_axes():
    colour = random_images(1)[0]
    for raw, shape in ((colour, (8, 8, 3)), (np.moveaxis(colour, 2, 0), (3, 8, 8))):
        np.testing.assert_array_equal(np.asarray(pixels.from_raw(raw.tobytes(), shape)), colour)
    assert pixels.from_raw(bytes(6), (2, 3, 1)).size == (3, 2)
    with pytest.raises(CorruptImage, match="5 raw values where 2x3 needs 6"):
        pixels.from_raw(bytes(5), (2, 3))


def test_padding_adds_black_on_every_side_and_keeps_the_middle():
    values = np.full((28, 28), 200, dtype=np.uint8)
    padded = np.asarray(pixels.padded(Image.fromarray(values), 2))
    assert padded.shape == (32, 32)
    assert np.asarray(pixels.padded(Image.fromarray(values), 2, "white"))[:2].min() == 255
    assert np.array_equal(padded[2:-2, 2:-2], values)
    assert padded.sum() == values.sum(dtype=np.int64)
