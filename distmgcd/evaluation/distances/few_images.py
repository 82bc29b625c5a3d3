"""Warnings where there are too few images for a distance to mean much.

Why fewer than about 100 held-out images tell too little. The distance of two sets of n and m images of ONE distribution
is not 0. Along a direction in which the images deviate by s, for a normal distribution with distribution function F,

    E W1 = s k sqrt(1/n + 1/m)      k = sqrt(2 / pi) * integral of sqrt(F (1 - F)) = 1.3

Measured with swd.py (finest grid, 256 directions, two to six disjoint held-out sets of n, m = 1,000 training
images, 719 of the digits): k = 1.15 to 1.44 for every n from 10 to 1,000, on digits 8x8, Fashion-MNIST 16x16, CIFAR-10
32x32, and photographs at 32x32 and 64x64. Every distance has this floor: a smaller difference cannot be seen.
1000 x distance to n held-out photographs at 32x32, with the deviation over held-out sets:

    n      photographs     the same from 8x8 pixels    normal distribution of the same mean and covariance
    30     101.5 +- 8.2    107.3 +- 6.6                102.5 +- 7.1
    50      76.9 +- 6.7     85.1 +- 6.0                 79.5 +- 7.4
    100     58.1 +- 4.3     71.3 +- 2.9                 62.8 +- 3.6
    200     42.4 +- 2.5     59.5 +- 2.2                 46.7 +- 4.8
    400     34.5 +- 3.8     54.6 +- 4.7                 40.6 +- 4.4
    1000    25.4 +- 2.2     49.3 +- 1.2                 33.3 +- 1.2

With 50 images even pictures blurred to a sixteenth of their pixels have the distance of photographs; with 100 they
differ by three deviations. There the floor is an eighth of s, which is the bound here. Noise with the right mean and
covariance cannot be told from photographs up to several hundred images. Which parts of a picture belong together, the
distance does not see with any number of images.
"""

import math

from distmgcd.config import Config

_K = 1.25  # measured, see above
_LARGEST_FLOOR = 1 / 8 + 0.01  # of the images' own deviation; 100 held-out images against 1,000 samples have 0.131


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


def warning_of_few_for(name: str, *, num_images: int, num_features: int) -> str | None:
    """A warning where a Frechet distance of num_images images is mostly bias, or None."""
    if num_images >= num_features:
        return None
    return (
        f"{name} is taken of {num_images} images in {num_features} features; of fewer images than features it is "
        "mostly bias: compare it at this number only, or have more samples taken, if there are as many held-out images."
    )
