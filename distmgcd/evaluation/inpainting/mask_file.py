"""A mask that a user has painted: an image file whose light pixels are hidden, the same of every image."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from distmgcd.errors import UserError

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
