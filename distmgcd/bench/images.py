"""The images that a bench learns from: the config's own where they are at hand."""

import numpy as np

from distmgcd.config import Config
from distmgcd.errors import UserError
from distmgcd.models.assemble import open_training_images


def training_pixels(config: Config) -> tuple[np.ndarray, str | None]:
    """uint8 [N, C, S, S], and a sentence where they are made up, because the config's own cannot be read.

    How fast an update is does not depend on what the images show, so a machine without them can be measured, too.
    """
    try:
        return open_training_images(config).images, None
    except UserError as error:
        shape = (config.learning.global_batch_size, config.data.channels, config.image_size, config.image_size)
        made_up = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        return made_up, f"Pixels are random numbers, which does not change the speed. ({error})"
