"""From the bytes of an image to uint8 pixels of the wanted channels and size.

What counts as what, by Pillow's mode (a colour-typed file is colour even if its pixels are grey):

    grey    1, L, LA, La, 16-bit and integer grey (I;16, I: value / 257, rounded)
    colour  RGB, RGBA, RGBa, P, PA (palettes), CMYK, YCbCr, HSV, LAB
    none    F: floating-point pixels have no agreed range, so such an image is corrupt

Transparency, of an alpha channel or of one see-through colour, is kept (modes LA and RGBA) until `over` lays the image
over a background. The first frame of an animation is taken. The orientation tag of EXIF is ignored, as in torchvision.
"""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageColor, ImageOps, UnidentifiedImageError

from distmgcd.data.sources.source import CorruptImage

_GREY_MODES = frozenset({"1", "L", "LA", "La"})
_ALPHA_MODES = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})
_OPAQUE = 255
_LARGEST_16_BIT = 65535
_KIND_OF_CHANNELS = {1: "grey", 3: "colour"}


def decode(encoded: bytes) -> Image.Image:
    """Decode an image file held in memory to Pillow mode L (grey) or RGB (colour), 8 bits; LA, RGBA if transparent.

    Raises CorruptImage with the reason.
    """
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            return to_eight_bits(image)
    except CorruptImage:
        raise
    except UnidentifiedImageError:
        raise CorruptImage(
            what_is_there(encoded) or f"{len(encoded)} bytes that are no image file Pillow knows"
        ) from None
    except MemoryError:
        raise
    except Exception as error:  # Pillow's readers raise almost any type on broken bytes
        raise CorruptImage(f"does not decode ({type(error).__name__}: {error})") from error


def what_is_there(first_bytes: bytes) -> str | None:
    """What stands in a file's place, in words, where it is something that often does."""
    if not first_bytes:
        return "0 bytes: the file is empty"
    if first_bytes.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS, not the file itself; run `git lfs pull` where it was cloned"
    if first_bytes.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")):
        return "a web page, not the file itself; download it again"
    return None


def from_raw(pixels: bytes | np.ndarray, shape: tuple[int, ...]) -> Image.Image:
    """Make an image of raw values from 0 to 255, row-major [H, W], [H, W, C] or [C, H, W] with C = 1, 3 or 4 (alpha).

    Where several readings are possible, C = 4 comes last, and [H, W, C] before [C, H, W]. Raises CorruptImage if the
    length is wrong or a value out of range.
    """
    values = np.frombuffer(pixels, dtype=np.uint8) if isinstance(pixels, bytes) else np.asarray(pixels)
    if values.size != np.prod(shape):
        wanted = "x".join(map(str, shape))
        raise CorruptImage(f"{values.size} raw values where {wanted} needs {np.prod(shape)}")
    if not is_image_shape(shape):
        raise CorruptImage(f"an array of shape {'x'.join(map(str, shape))}, which no image has")
    if values.dtype != np.uint8 and (values.min() < 0 or values.max() > _OPAQUE):
        raise CorruptImage(f"raw values from {values.min()} to {values.max()}, outside 0 to 255")
    values = values.astype(np.uint8, copy=False).reshape(shape)
    if values.ndim == 3 and _channels_first(shape):
        values = np.moveaxis(values, 0, 2)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    return to_eight_bits(Image.fromarray(np.ascontiguousarray(values)))


def is_image_shape(shape: Sequence[int]) -> bool:
    """Whether from_raw takes it."""
    channels = {shape[0], shape[2]} & {1, 3, 4} if len(shape) == 3 else None
    return 0 not in shape and (len(shape) == 2 or bool(channels))


def _channels_first(shape: Sequence[int]) -> bool:
    return shape[2] not in (1, 3) and (shape[0] in (1, 3) or shape[2] != 4)


def to_eight_bits(image: Image.Image) -> Image.Image:
    """Mode L for what counts as grey, RGB for what counts as colour; LA, RGBA if a pixel is not opaque.

    Raises CorruptImage.
    """
    if image.mode.startswith("I"):
        return _sixteen_to_eight_bits(image)
    if image.mode == "F":
        raise CorruptImage("floating-point pixels have no agreed range")
    wanted = "L" if image.mode in _GREY_MODES else "RGB"
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        image = image.convert("RGBA")
        extrema: Any = image.getextrema()  # (low, high) of each channel
        if extrema[3][0] < _OPAQUE:
            return image if wanted == "RGB" else image.convert("LA")
    image.load()
    return image if image.mode == wanted else image.convert(wanted)


def over(image: Image.Image, background: str) -> Image.Image:
    """A transparent image laid over a colour, black, white or "#rrggbb": mode L or RGB. Others are as they are."""
    if image.mode not in ("LA", "RGBA"):
        return image
    behind = Image.new("RGBA", image.size, (*ImageColor.getrgb(background), _OPAQUE))
    return Image.alpha_composite(behind, image.convert("RGBA")).convert("L" if image.mode == "LA" else "RGB")


def fraction_clear(image: Image.Image) -> float:
    """Of its pixels, how many are wholly transparent."""
    return float((np.asarray(image.getchannel("A")) == 0).mean()) if image.mode in ("LA", "RGBA") else 0.0


def num_channels(image: Image.Image) -> int:
    """1 for modes L and LA, 3 for modes RGB and RGBA."""
    return 1 if image.mode in ("L", "LA") else 3


def kind_of(channels: int) -> str:
    """The word for it in a message: grey or colour."""
    return _KIND_OF_CHANNELS[channels]


def with_channels(image: Image.Image, channels: int) -> Image.Image:
    """Colour to grey by luma (ITU-R 601-2: 0.299 R + 0.587 G + 0.114 B); grey to colour by repeating."""
    return image.convert("L" if channels == 1 else "RGB") if num_channels(image) != channels else image


def padded(image: Image.Image, num_pixels: int, background: str = "black") -> Image.Image:
    """Add so many pixels of this colour on each of the four sides."""
    return ImageOps.expand(image, border=num_pixels, fill=background) if num_pixels else image


def fit(image: Image.Image, image_size: int) -> Image.Image:
    """Crop the centre square and bring it to `image_size` pixels per side.

    Larger images are averaged over areas: for a whole-number factor the mean of each box, as in the grids'
    pyramid, to the nearest level but for the last bit of Pillow's integer arithmetic. Smaller ones are
    enlarged bicubically.
    """
    width, height = image.size
    side = min(width, height)
    if (width, height) == (image_size, image_size):
        return image
    left, top = (width - side) // 2, (height - side) // 2
    square = (left, top, left + side, top + side)
    if side == image_size:
        return image.crop(square)
    if side % image_size == 0:
        return image.reduce(side // image_size, box=square)  # rounds once; resize rounds rows and columns
    method = Image.Resampling.BOX if side > image_size else Image.Resampling.BICUBIC
    return image.resize((image_size, image_size), method, box=square)


def to_array(image: Image.Image) -> np.ndarray:
    """uint8 [C, H, W] of an image in mode L or RGB."""
    values = np.asarray(image)
    return values[np.newaxis] if values.ndim == 2 else np.moveaxis(values, 2, 0)


def _sixteen_to_eight_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > _LARGEST_16_BIT:
        raise CorruptImage(f"integer pixels from {values.min()} to {values.max()}, outside 0 to {_LARGEST_16_BIT}")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))
