"""A config: its sections, and what must hold between them."""

import math
from functools import cached_property
from typing import Any

from pydantic import model_validator

from distmgcd.config.kinds import Section, Seed, show, suggest
from distmgcd.config.network import Network
from distmgcd.config.sections import (
    Checkpointing,
    Data,
    Evaluation,
    Grids,
    LangevinSettings,
    Learning,
    Logging,
    Speed,
    Start,
    Watch,
)


class Config(Section):
    """Everything that decides a run."""

    seed: Seed = 0
    """Of everything random: initial weights, the order of images, starts and noise."""
    data: Data
    grids: Grids
    network: Network = Network()
    langevin: LangevinSettings = LangevinSettings()
    start: Start = Start()
    learning: Learning = Learning()
    checkpoint: Checkpointing = Checkpointing()
    log: Logging = Logging()
    evaluate: Evaluation = Evaluation()
    watch: Watch = Watch()
    speed: Speed = Speed()

    @model_validator(mode="after")
    def _settings_fit_together(self) -> "Config":
        self.network.layers(self.grids.sizes)
        for section, keys in (
            ("langevin", LangevinSettings.model_fields),
            ("learning", ("learning_rate", "clip_norm")),
        ):
            for key in keys:
                self.per_grid(f"{section}.{key}")
        for rule in (_images, _start, _blocks, _evaluation, _checkpoint):
            rule(self)
        return self

    @cached_property
    def num_grids(self) -> int:
        return len(self.grids.sizes)

    @property
    def image_size(self) -> int:
        return self.grids.sizes[-1]

    @property
    def evaluation_sizes(self) -> tuple[int, ...]:
        """The sizes to which samples and held-out images are box-averaged before they are compared."""
        return self.evaluate.sizes or self.grids.sizes

    def per_grid(self, path: str) -> list[Any]:
        """The values of a setting such as "langevin.step_size", one per grid."""
        section, key = path.split(".")
        value = getattr(getattr(self, section), key)
        if not isinstance(value, tuple):
            return [value] * self.num_grids
        if len(value) != self.num_grids:
            raise ValueError(
                f"{path} must be one value or one per grid, but has {len(value)} values for {self.num_grids} grids "
                f"{show(self.grids.sizes)}; give {self.num_grids}, coarse to fine."
            )
        return list(value)


# What the sections ask of each other: each rule is one function, which raises ValueError with a sentence.


def _images(config: Config) -> None:
    if config.data.image_size not in (None, config.grids.sizes[-1]):
        raise ValueError(
            f"data.image_size must be the finest grid, but is {config.data.image_size} with "
            f"grids.sizes {show(config.grids.sizes)}; leave data.image_size out, or end grids.sizes with it."
        )


def _start(config: Config) -> None:
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


def _blocks(config: Config) -> None:
    block, batch = config.learning.block_size, config.learning.global_batch_size
    if block and batch % block:
        raise ValueError(
            f"learning.block_size must divide learning.global_batch_size, but {block} does not divide {batch}; set "
            f"learning.block_size={math.gcd(block, batch)}, say."
        )


def _evaluation(config: Config) -> None:
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


def _checkpoint(config: Config) -> None:
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
