"""Which pixels of an image are hidden: the kinds of mask of the paper's inpainting experiment (Gao et al. 2017).

    square    a square of half the image's side, at a random place          1/4 of the pixels (32x32 of 64x64)
    doodle    a scribble: the pixels nearest to a random line of strokes    1/4
    pepper    single pixels at random                                       6/10

The paper has about a quarter and about 60 % for the last two (recalled, its text was not at hand); here every mask of a
kind hides equally many pixels, so that a mean over pixels is a mean over images, too. A mask is a function of (kind,
seed, image, update), as the noise of a chain is.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from distmgcd.core.noise import Purpose, random_words, uniform

MaskKind = Literal["square", "doodle", "pepper"]
MASK_KINDS: tuple[MaskKind, ...] = get_args(MaskKind)

_DOODLE_SHARE, _PEPPER_SHARE = 0.25, 0.6
_NUM_STROKES = 5


def draw_masks(kind: MaskKind, images: Tensor, size: int, *, seed: int, purpose: Purpose, update: int = 0) -> Tensor:
    """bool [B, 1, size, size], true where a pixel is hidden. images: int64 [B], the index of each in its data set."""
    num_words = {"square": 2, "doodle": 2 * (_NUM_STROKES + 1), "pepper": size * size}[kind]
    step = torch.zeros(1, dtype=torch.int64, device=images.device)
    words = random_words(images, step, num_words, seed=seed, purpose=purpose, update=update)[0, :, :num_words]
    if kind == "square":
        hidden = _square(words, size)
    elif kind == "doodle":
        hidden = _lowest(_distance_to_scribble(words, size), round(_DOODLE_SHARE * size * size))
    else:
        hidden = _lowest(uniform(words), round(_PEPPER_SHARE * size * size))
    return hidden.view(len(images), 1, size, size)


def _square(words: Tensor, size: int) -> Tensor:
    """words: [B, 2], for the top and the left edge."""
    side = max(1, size // 2)
    first = (words % (size - side + 1))[:, :, None]
    places = torch.arange(size, device=words.device)
    rows, columns = ((places >= first) & (places < first + side)).unbind(1)
    return rows[:, :, None] & columns[:, None, :]


def _distance_to_scribble(words: Tensor, size: int) -> Tensor:
    """Squared distance of every pixel to strokes from point to point: [B, size * size]. words: [B, 2 points]."""
    points = uniform(words).view(len(words), -1, 1, 2)
    centres = (torch.arange(size, device=words.device) + 0.5) / size
    pixels = torch.cartesian_prod(centres, centres)
    start, stroke = points[:, :-1], points.diff(dim=1)
    to_pixel = pixels - start  # [B, strokes, size * size, 2]
    share = (to_pixel * stroke).sum(-1, keepdim=True) / stroke.square().sum(-1, keepdim=True)
    return (to_pixel - share.clamp(0.0, 1.0) * stroke).square().sum(-1).amin(1)


def _lowest(values: Tensor, num: int) -> Tensor:
    """bool [B, N]: which `num` of each row's values are lowest."""
    chosen = values.argsort(dim=1, stable=True)[:, :num]
    return torch.zeros_like(values, dtype=torch.bool).scatter_(1, chosen, True)
