"""What a user is told as a training starts: which images it learns from, what its distances can tell, what was changed.

Why fewer than about 100 held-out images tell too little. The distance of two sets of n and m images of ONE distribution
is not 0. Along a direction in which the images deviate by s, for a normal distribution with distribution function F,

    E W1 = s k sqrt(1/n + 1/m)      k = sqrt(2 / pi) * integral of sqrt(F (1 - F)) = 1.3

Measured with evaluate/swd.py (finest grid, 256 directions, two to six disjoint held-out sets of n, m = 1,000 training
images, 719 of the digits): k = 1.15 to 1.44 for every n from 10 to 1,000, on digits 8x8, Fashion-MNIST 16x16, CIFAR-10
32x32, and photographs at 32x32 and 64x64. This floor lies under every distance, and what is off by less hides in it.
1000 x distance to n held-out photographs at 32x32, with the deviation over held-out sets:

    n      photographs     the same from 8x8 pixels    normal distribution of the same mean and covariance
    30     101.5 +- 8.2    107.3 +- 6.6                102.5 +- 7.1
    50      76.9 +- 6.7     85.1 +- 6.0                 79.5 +- 7.4
    100     58.1 +- 4.3     71.3 +- 2.9                 62.8 +- 3.6
    200     42.4 +- 2.5     59.5 +- 2.2                 46.7 +- 4.8
    400     34.5 +- 3.8     54.6 +- 4.7                 40.6 +- 4.4
    1000    25.4 +- 2.2     49.3 +- 1.2                 33.3 +- 1.2

With 50 images even pictures blurred to a sixteenth of their pixels pass; with 100 they stand apart by three deviations.
There the floor is an eighth of s, which is the bound. Blobs with the right mean and covariance pass up to several
hundred images. What projections do not show, which parts belong together, the distance does not see with any number.
"""

import math
from collections.abc import Iterator

from distmgcd.config import Config
from distmgcd.config.cost_words import cost_line
from distmgcd.config.schema import Data
from distmgcd.data import ImageSet, notes_of
from distmgcd.data.source import ALL_SPLITS
from distmgcd.data.splits import split_named
from distmgcd.errors import UserError

_K = 1.25  # measured, see above
_LARGEST_FLOOR = 1 / 8 + 0.01  # of the images' own deviation; 100 held-out images against 1,000 samples have 0.131


def start_lines(config: Config, images: ImageSet, held_out: ImageSet) -> Iterator[str]:
    """The images, what the run costs, then warnings, a sentence or two each."""
    yield _of_images(config, images, held_out)
    yield f"{cost_line(config, num_images=len(images))} How long that takes here is measured in the first updates."
    yield from warnings_of(config, images, held_out)


def warnings_of(config: Config, images: ImageSet, held_out: ImageSet) -> Iterator[str]:
    """What should be known of the images and of what the settings come to."""
    if warning := too_few(config, len(held_out)):
        yield warning
    if config.data.pad:
        yield f"{pad_line(config)} data.pad=0 adds none."
    yield from notes_of(images, held_out)
    learning = config.learning
    if learning.warmup_updates != learning.warmup:
        yield warmup_line(config)


def _of_images(config: Config, images: ImageSet, held_out: ImageSet) -> str:
    data = config.data
    if data.validation:
        why = f"data.validation={data.validation:g} keeps a part of {data.split!r} out, in place of {data.held_out!r}"
    else:
        why = f"data.split={data.split} and data.held_out={data.held_out}; splits {images.split_origin}"
    return f"Images: {len(images):,} to learn from, {len(held_out):,} held out ({why}).{_unused(data, images)}"


def _unused(data: Data, images: ImageSet) -> str:
    """The splits of the source that are neither learned from nor held out, as a sentence, or nothing."""
    used = [data.split, *([] if data.validation else [data.held_out])]
    splits = images.splits or {}
    taken = {split_named(name, list(splits)) for name in used}
    left = [f"{name} ({num:,} images)" for name, num in splits.items() if num and name not in taken]
    if ALL_SPLITS in used or not left:
        return ""
    made = f"; splits {images.split_origin}" if data.validation else ""
    return f" Not used: {', '.join(left)}{made}."


def check_different_splits(config: Config, images: ImageSet, held_out: ImageSet) -> None:
    """Raises UserError where the split that is learned from is also the one that is held out."""
    data = config.data
    if not data.validation and images.split == held_out.split:
        raise UserError(
            f"data.split and data.held_out must differ, but data.split={data.split} and data.held_out={data.held_out} "
            f"both name the split {images.split!r}; name another split by one of them, or set data.validation=0.2, "
            "which holds out a fifth of the images."
        )


def too_few(config: Config, num_held_out: int) -> str | None:
    """A warning where distances to so many held-out images tell too little, or None."""
    num_samples = config.evaluate.num_samples
    more_images = "give more images, or set data.validation=0.2 (a fifth of the training images)"
    if config.data.validation >= 0.2:
        more_images = "give more images"
    way_out = more_images if num_held_out <= num_samples else "raise evaluate.num_samples"
    return warning_of_few(num_samples, min(num_samples, num_held_out), way_out=way_out)


def warning_of_few(num_samples: int, num_held_out: int, *, way_out: str) -> str | None:
    """A warning where distances of so many samples to so many held-out images tell too little, or None."""
    floor = _K * math.sqrt(1 / num_held_out + 1 / num_samples)
    if floor <= _LARGEST_FLOOR:
        return None
    return (
        f"Warning: {num_held_out} held-out images against {num_samples} samples are too few to tell much: by chance "
        f"alone the distance is about {100 * floor:.0f} % of the images' own spread, and blurred pictures or blobs may "
        f"pass. For numbers that tell more, {way_out}."
    )


def pad_line(config: Config) -> str:
    """What data.pad does: a preset may have it for other images than these."""
    data, size = config.data, config.image_size
    pixels = f"{data.pad} {data.background} pixel{'s' if data.pad > 1 else ''}"
    return f"data.pad={data.pad} adds {pixels} on each side of every image before it is resized to {size}x{size}."


def warmup_line(config: Config) -> str:
    learning, shorter = config.learning, config.learning.warmup_updates
    then = f"the learning rate rises over the first {shorter}" if shorter else "there is none"
    return f"learning.warmup={learning.warmup} does not fit into {learning.rate_updates} updates, so {then}."
