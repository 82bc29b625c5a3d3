"""Final runs measured again in a feature network: Frechet distance, precision and recall of the samples they have.

    RUN/evaluation/comparison-NETWORK-CHECKSUM.json

Of the same samples, or banks, and the same images as the sliced distances. The record lies beside scores.json, so
a plan may ask for features, for others, or for none any more, and what is there stays as it is.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from distmgcd.comparison.comparison_plan import Plan, Sampling
from distmgcd.comparison.score_run import Runs, drawn
from distmgcd.config import Config
from distmgcd.data import ImageSet
from distmgcd.errors import UserError
from distmgcd.evaluation.distances import metrics
from distmgcd.evaluation.distances.collect import Collected, Wanted, collect
from distmgcd.evaluation.distances.sample_distance import (
    draws_of_bank,
    draws_of_data,
    evaluation_seeds,
    mean_and_spread,
)
from distmgcd.evaluation.features.networks import FeatureNetwork, open_features
from distmgcd.evaluation.pictures.sheet import as_levels
from distmgcd.evaluation.record import FOLDER, identity_of_model, write_record
from distmgcd.evaluation.record_folder import read_record
from distmgcd.evaluation.subject import SMALLEST_NUM, Request, Subject
from distmgcd.models.assemble import open_held_out_images, open_training_images
from distmgcd.models.sampling import as_floats
from distmgcd.models.trained_model import TrainedModel
from distmgcd.runs.run_folder import Run
from distmgcd.workers.collectives import LocalWorker, choose_device
from distmgcd.workers.stop import Stopped

InFeatures = dict[str, Any]  # "samples" and "data": {"values": {name: mean}, "spread"}, and "num", "protocol"

_BATCH = 64  # images that the network sees at once
_WANTED = Wanted(projections=False, moments=True, features=True, classes=False, pixels=False)


@dataclass(frozen=True)
class FeatureScorer:
    """Measures final runs, and remembers what it has seen in the images, which are the same for all of them."""

    network: FeatureNetwork
    runs: Runs
    _seen: dict[tuple, Sequence[Collected]] = field(default_factory=dict)

    def read(self, config: Config, way: Sampling | None) -> InFeatures | None:
        """What was measured of this run's samples, or of its bank (way None); None if that has not been done."""
        found = read_record(
            Run.open(self.runs.path(config)).store, f"{self._stem}.json", identity=self._identity(config)
        )
        return found["results"].get(_key(way)) if found else None

    def measure(self, config: Config, way: Sampling | None) -> InFeatures:
        """Measure it and write it down. Trains nothing. Raises Stopped."""
        run, trained = Run.open(self.runs.path(config)), self.runs.load(config)
        found = {_key(way): self._measured(run, trained, way)}
        how = {"device": trained.device.type}
        record = write_record(run.store, f"{FOLDER}/{self._stem}", self._identity(config), found, how, {})
        return record["results"][_key(way)]

    @property
    def _stem(self) -> str:
        return f"comparison-{self.network.label}-{self.network.checksum[:8]}"

    def _identity(self, config: Config) -> dict[str, Any]:
        """What every number of the file depends on, beside the run."""
        evaluate = config.evaluate
        return {"features": self.network.protocol(), "num": evaluate.num_samples, "draws": evaluate.num_draws}

    def _measured(self, run: Run, trained: TrainedModel, way: Sampling | None) -> InFeatures:
        images, held_out = _images(trained.config)
        num = _num(trained.config, images, held_out)
        config = _with_num(trained.config, num)
        subject = Subject(run, trained, images, held_out, self.network, Request(metrics=("fd", "pr"), num=num))
        [reference] = self._once("reference", held_out, num, lambda: [as_floats(held_out.images[:num])])
        data = self._once("data", images, num, lambda: draws_of_data(images, config))
        own = _draws(trained, way, num) if way else draws_of_bank(trained.bank, config)
        found = [self._of_draw(subject, pictures, *sets, reference) for pictures, *sets in zip(own, data, strict=True)]
        num_own = num if way else min(num, len(trained.bank))
        return {
            **{who: _over_draws([of_draw[who] for of_draw in found]) for who in ("samples", "data")},
            "num": num_own,
            "protocol": {
                **found[0]["protocol"],
                "num_features": len(reference.moments.total),
                "draws": f"mean and standard deviation over {len(found)} draws, all against the same reference",
                "samples": f"{num_own} {f'fresh chains a draw, {way}' if way else 'random persistent chains a draw'}, "
                "rounded to 8 bits as the data are",
                "reference": f"the first {num} images of {held_out.name}",
                "data": f"{num} random images a draw of {images.name}",
                "model": identity_of_model(run, _drawing(trained, way)),
            },
        }

    def _of_draw(self, subject: Subject, pictures: Tensor, data: Collected, reference: Collected) -> dict[str, Any]:
        """The samples' values are nan where a picture is not finite, or where there are too few."""
        usable = len(pictures) >= SMALLEST_NUM and bool(pictures.isfinite().all())
        sets = metrics.Sets(self._collected(pictures) if usable else data, data, reference)
        fd, pr = metrics.fd(subject, sets), metrics.pr(subject, sets)
        found = {
            who: {fd["name"]: fd[who]} | {self.network.measure(what): value for what, value in pr[who].items()}
            for who in ("samples", "data")
        }
        if not usable:
            found["samples"] = dict.fromkeys(found["samples"], math.nan)
        return {**found, "protocol": {**fd["protocol"], **pr["protocol"]}}

    def _once(
        self, what: str, images: ImageSet, num: int, draws: Callable[[], Sequence[Tensor]]
    ) -> Sequence[Collected]:
        key = what, images.fingerprint, images.split, num
        if key not in self._seen:
            self._seen[key] = [self._collected(pictures) for pictures in draws()]
        return self._seen[key]

    def _collected(self, pictures: Tensor) -> Collected:
        """Of pictures [N, C, S, S] in [-1, 1]."""
        return collect(
            lambda numbers: as_levels(pictures[numbers]),
            len(pictures),
            _WANTED,
            shape=pictures.shape[1:],
            sizes=(),
            network=self.network,
            batch_size=_BATCH,
            worker=LocalWorker(choose_device(self.runs.use_gpu)),
            progress=self._heed_stop,
        )

    def _heed_stop(self, done: int) -> None:
        if self.runs.stop():
            raise Stopped(None)


def open_scorer(plan: Plan, runs: Runs) -> FeatureScorer | None:
    """As the plan's features ask for it, or None. Raises UserError if its network or enough images cannot be had."""
    if plan.features is None:
        return None
    network = open_features(plan.features, device=choose_device(runs.use_gpu), option="features: ")
    for variant in plan.variants.values():
        config = plan.final(variant, {}, seed=plan.seeds[0])
        images, held_out = _images(config)
        if _num(config, images, held_out) < SMALLEST_NUM:
            raise UserError(
                f"features are measured of at least {SMALLEST_NUM} samples and as many images, but the plan "
                f"{plan.name} has test.samples={plan.test.samples}, {len(images)} images of {images.name} and "
                f"{len(held_out)} of {held_out.name}; raise what is too small, or leave out features."
            )
    return FeatureScorer(network, runs)


def _images(config: Config) -> tuple[ImageSet, ImageSet]:
    return open_training_images(config), open_held_out_images(config)


def _num(config: Config, images: ImageSet, held_out: ImageSet) -> int:
    """Of samples, data and held-out images alike, for these distances depend on it."""
    return min(config.evaluate.num_samples, len(images), len(held_out))


def _with_num(config: Config, num: int) -> Config:
    return config.model_copy(update={"evaluate": config.evaluate.model_copy(update={"num_samples": num})})


def _draws(trained: TrainedModel, way: Sampling, num: int) -> Iterator[Tensor]:
    """The samples [num, C, S, S] of every draw: those that the sliced distance is taken of."""
    return (drawn(trained, way, num, seed=seed) for seed in evaluation_seeds(trained.config))


def _drawing(trained: TrainedModel, way: Sampling | None) -> TrainedModel:
    """The model as it was sampled, to be told with the numbers."""
    return replace(trained, config=way.applied(trained.config)) if way else trained


def _over_draws(found: Sequence[dict[str, float]]) -> dict[str, dict[str, float]]:
    mean, spread = mean_and_spread([list(of_draw.values()) for of_draw in found])
    return {"values": dict(zip(found[0], mean, strict=True)), "spread": dict(zip(found[0], spread, strict=True))}


def _key(way: Sampling | None) -> str:
    return str(way) if way else "the bank"
