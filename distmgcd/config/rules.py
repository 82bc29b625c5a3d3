"""What the sections of a config ask of each other: each rule is one function, which raises ValueError."""

import math
from typing import TYPE_CHECKING

from distmgcd.config.kinds import show, suggest

if TYPE_CHECKING:
    from distmgcd.config.schema import Config


def check_together(config: "Config") -> None:
    """Raises ValueError with a sentence for the user."""
    for rule in (_images, _start, _blocks, _evaluation, _checkpoint):
        rule(config)


def _images(config: "Config") -> None:
    if config.data.image_size not in (None, config.grids.sizes[-1]):
        raise ValueError(
            f"data.image_size must be the finest grid, but is {config.data.image_size} with "
            f"grids.sizes {show(config.grids.sizes)}; leave data.image_size out, or end grids.sizes with it."
        )


def _start(config: "Config") -> None:
    if config.start.kind == "single" and config.num_grids > 1:
        raise ValueError(
            f"start.kind=single learns the finest grid only, but grids.sizes {show(config.grids.sizes)} has "
            f"{config.num_grids}; set 'grids.sizes=[{config.image_size}]', and one network for it."
        )
    if config.start.kind != "persistent":
        for key in ("fresh_updates", "renewed"):
            if getattr(config.start, key):
                raise ValueError(
                    f"start.{key} is about persistent chains, but start.kind is {config.start.kind}; leave start.{key} "
                    "out, or set start.kind=persistent."
                )


def _blocks(config: "Config") -> None:
    block, batch = config.learning.block_size, config.learning.global_batch_size
    if block and batch % block:
        raise ValueError(
            f"learning.block_size must divide learning.global_batch_size, but {block} does not divide {batch}; set "
            f"learning.block_size={math.gcd(block, batch)}, say."
        )


def _evaluation(config: "Config") -> None:
    evaluate = config.evaluate
    if unfit := [size for size in config.evaluation_sizes if config.image_size % size]:
        raise ValueError(
            f"evaluate.sizes must divide the finest grid, but {unfit[0]} does not divide {config.image_size}; leave "
            "it out to measure at the grids, or take divisors."
        )
    if evaluate.features and evaluate.num_samples < 2:
        raise ValueError(
            f"evaluate.features measures spreads, which take at least 2 samples, but evaluate.num_samples is "
            f"{evaluate.num_samples}; raise it, or set evaluate.features=null."
        )


def _checkpoint(config: "Config") -> None:
    metric = config.checkpoint.metric
    if metric == "fd" and not config.evaluate.features:
        raise ValueError(
            "checkpoint.metric=fd is a distance in the features of a network, but evaluate.features is null; set "
            "evaluate.features=efficientnet-lite0, say."
        )
    metrics = ["swd", *(f"swd/{size}" for size in config.evaluation_sizes), "fd"]
    if metric not in metrics:
        raise ValueError(
            f"checkpoint.metric must be one of {', '.join(metrics)}, but is {metric!r}{suggest(metric, metrics)}; its "
            "default is swd, the mean over grids."
        )
