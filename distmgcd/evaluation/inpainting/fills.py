"""How well hidden pixels are filled, two fills without a model to compare with, and masks from a file.

Of images x and fills y, over all hidden values (pixels and channels) of all images, pixels in [0, 1]:

    error = mean |y - x|                    PSNR = 10 log10(1 / mean (y - x)^2), in dB

The paper (Gao et al. 2017, the section on inpainting) gives the average difference per pixel and the PSNR over the
hidden region. Its figures for the square, error .042 and PSNR 16.42, are written here from memory. That PSNR is a root
mean square of .151: by these formulas the two fit together only if errors are very uneven, so the paper may use another
range of pixels. Do not compare them with numbers from here.

A sample is not the nearest fill: where the known pixels leave a choice, a perfect sampler of the hidden ones has twice
the mean square of their conditional mean, 3 dB less, and a smooth fill gains by that.

read_mask reads the mask that a user has painted: an image file; its light pixels are hidden, in every image.
"""

from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from distmgcd.errors import UserError


class FillScore(NamedTuple):
    error: float  # in [0, 1]
    error_deviation: float  # of the mean error of one image, over images
    psnr: float  # dB; infinite where every hidden pixel is right


def score_fill(filled: Tensor, images: Tensor, hidden: Tensor) -> FillScore:
    """filled, images: [N, C, S, S] in [-1, 1]; hidden: bool [N, 1, S, S], in every image at least one pixel."""
    errors = image_errors(filled, images, hidden)
    difference = _differences(filled, images, hidden)
    squared = difference.square().sum() / (hidden.sum() * images.shape[1])
    absolute = difference.abs().sum() / (hidden.sum() * images.shape[1])
    deviation = errors.std(correction=min(1, len(errors) - 1))
    return FillScore(float(absolute), float(deviation), float(-10.0 * squared.log10()))


def image_errors(filled: Tensor, images: Tensor, hidden: Tensor) -> Tensor:
    """The error of each image alone, [N]."""
    return _differences(filled, images, hidden).abs().flatten(1).sum(1) / (hidden.flatten(1).sum(1) * images.shape[1])


def _differences(filled: Tensor, images: Tensor, hidden: Tensor) -> Tensor:
    """In units of [0, 1], 0 where nothing is hidden; what is not a number is black, as a sheet shows it."""
    filled = filled.double().nan_to_num(nan=-1.0).clamp(-1.0, 1.0)
    return torch.where(hidden, 0.5 * (filled - images.double()), 0.0)


def mean_fill(images: Tensor, hidden: Tensor) -> Tensor:
    """Every hidden pixel as the mean of its image's known ones, by channel."""
    known = ~hidden
    mean = (images * known).flatten(2).sum(2) / known.flatten(2).sum(2)
    return torch.where(hidden, mean[:, :, None, None], images)


def biharmonic_fill(images: Tensor, hidden: Tensor) -> Tensor:
    """The smoothest continuation of the known pixels (Damelin, Hoang 2018), by scikit-image; ImportError without it."""
    from skimage.restoration import inpaint_biharmonic

    filled = [
        inpaint_biharmonic(image.permute(1, 2, 0).double().numpy(), mask[0].numpy(), channel_axis=-1)
        for image, mask in zip(images, hidden, strict=True)
    ]
    return torch.from_numpy(np.stack(filled)).permute(0, 3, 1, 2).to(images.dtype)


_LIGHT = 128  # grey levels from here on


def read_mask(path: str, size: int) -> Tensor:
    """bool [1, size, size], true where a pixel is hidden. Raises UserError."""
    try:
        with Image.open(path) as image:
            levels = np.asarray(image.convert("L"))
    except FileNotFoundError:
        raise UserError(
            f"--mask must be square, doodle, pepper or an image file, but {path!r} is no such name and no file"
            f"{'; for several, give --mask once for each' if ',' in path else ''}."
        ) from None
    except Exception as error:  # Pillow's readers raise almost any type on what they cannot read
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise UserError(f"--mask {path!r} is no image file that can be read ({reason}); give a PNG, say.") from None
    if levels.shape != (size, size):
        height, width = levels.shape
        raise UserError(
            f"--mask {path!r} must have the size of the run's images, {size}x{size}, but has {width}x{height}; resize "
            "it."
        )
    hidden = torch.from_numpy(levels >= _LIGHT)
    if hidden.all() or not hidden.any():
        which = "every pixel is" if hidden.all() else "no pixel is"
        raise UserError(
            f"--mask {path!r} hides what is white and keeps what is black, but {which} white; paint some of it."
        )
    return hidden[None]
