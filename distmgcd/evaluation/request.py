"""What is to be measured, as a user asks for it."""

import re
from dataclasses import dataclass

from distmgcd.config.kinds import suggest
from distmgcd.errors import UserError
from distmgcd.evaluation.features.networks import DEFAULT
from distmgcd.models.trained_model import Weights

METRICS = {
    "swd": "sliced Wasserstein distance per grid",
    "fd": "Frechet distance in features",
    "kd": "kernel distance in features",
    "is": "class score (Inception score) of networks that have classes",
    "pr": "precision and recall in features",
    "nn": "nearest training images, and a memorisation ratio",
    "diversity": "mean distance between two samples",
    "chains": "longer chains, and the acceptance rate of a Metropolis-adjusted step",
}
OF_FEATURES = frozenset({"fd", "kd", "is", "pr", "nn", "diversity"})
LARGEST_NUM = 10_000  # samples, where --num is not given
SMALLEST_NUM = 20


@dataclass(frozen=True, kw_only=True)
class Request:
    metrics: tuple[str, ...] | None = None  # None: all that the feature network allows
    num: int | None = None  # samples; None: 10,000, or as many as there are images to compare them with
    multiples: tuple[int, ...] = (1, 2, 10)  # of every grid's num_steps, where chains are looked at
    features: str = DEFAULT
    download: bool = False
    seed: int = 0
    checkpoint: str = "end"
    weights: Weights = "ema"
    data: str | None = None  # where the run's images are; None: at its data.path
    out: str | None = None  # the folder for results; None: the run's (record.results_of)

    def wants(self, *metrics: str) -> bool:
        return self.metrics is None or not set(metrics).isdisjoint(self.metrics)


def parse_metrics(text: str | None) -> tuple[str, ...] | None:
    """ "swd,fd" is ("swd", "fd"), in the order of METRICS. Raises UserError."""
    if text is None:
        return None
    asked = [part.strip() for part in text.split(",")]
    for name in asked:
        if name not in METRICS:
            raise UserError(
                f"--metrics must be some of {', '.join(METRICS)}, with commas between them, but has {name!r}"
                f"{suggest(name, list(METRICS))}; leave it out for all."
            )
    return tuple(name for name in METRICS if name in asked)


def parse_steps(text: str) -> tuple[int, ...]:
    """ "K,2K,10K" is (1, 2, 10), in rising order. Raises UserError."""
    multiples = set()
    for part in text.split(","):
        found = re.fullmatch(r"([1-9]\d*)?[kK]", part.strip())
        if not found:
            raise UserError(
                "--steps must be multiples of K, the number of steps of the run's config, but has "
                f"{part.strip()!r}; write --steps K,2K,10K."
            )
        multiples.add(int(found[1] or 1))
    return tuple(sorted(multiples))
