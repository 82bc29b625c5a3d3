"""Final runs measured again in a feature network: Frechet distance, precision and recall of the samples they have.

    RUN/evaluation/comparison-NETWORK-CHECKSUM.json

Of the same samples, or banks, and the same images as the sliced distances. The record lies beside scores.json, so
a plan may ask for features, for others, or for none any more, and what is there stays as it is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from distmgcd.comparison.comparison_plan import Plan, Sampling
from distmgcd.comparison.score_run import Runs, drawn
from distmgcd.config import Config
from distmgcd.data import ImageSet
from distmgcd.errors import UserError
from distmgcd.evaluation.distances.draws import draws_of_bank, draws_of_data, evaluation_seeds
from distmgcd.evaluation.distances.measure import SampleDistances
from distmgcd.evaluation.distances.metrics import FD_PROTOCOL, PR_PROTOCOL
from distmgcd.evaluation.features.networks import FeatureNetwork, open_features
from distmgcd.evaluation.record import FOLDER, add_results, identity_of_model, read_record
from distmgcd.evaluation.subject import SMALLEST_NUM
from distmgcd.models.assemble import open_held_out_images, open_training_images
from distmgcd.models.trained_model import TrainedModel
from distmgcd.runs.run_folder import Run
from distmgcd.workers.collectives import LocalWorker, choose_device
from distmgcd.workers.stop import Stopped

InFeatures = dict[str, Any]  # "samples" and "data": {"values": {name: mean}, "spread"}, and "num", "protocol"

_ROWS_PER_SUM = 64  # of features, in the sums of their moments
Values = dict[str, dict[str, float]]  # {"values": {name: mean over draws}, "spread": {name: deviation}}


@dataclass(frozen=True)
class FeatureScorer:
    """Measures final runs, and remembers what it has seen in the images, which are the same for all of them."""

    network: FeatureNetwork
    runs: Runs
    _seen: dict[tuple, tuple[SampleDistances, Values]] = field(default_factory=dict)

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
        record = add_results(run.store, f"{FOLDER}/{self._stem}", self._identity(config), found, how, {})
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
        distances, of_data = self._of_data(trained.config, images, held_out, num)
        own = _draws(trained, way, num)
        return {
            "samples": self._values(distances, own),
            "data": of_data,
            "num": len(own[0]),
            "protocol": {
                **self.network.protocol(),
                **FD_PROTOCOL,
                **PR_PROTOCOL,
                "num_features": distances.num_features,
                "draws": f"mean and standard deviation over {len(own)} draws, all against the same reference",
                "samples": f"{len(own[0])} "
                f"{f'fresh chains a draw, {way}' if way else 'random persistent chains a draw'}, "
                "rounded to 8 bits as the data are",
                "reference": f"the first {num} images of {held_out.name}",
                "data": f"{num} random images a draw of {images.name}",
                "model": identity_of_model(run, _drawing(trained, way)),
            },
        }

    def _of_data(
        self, config: Config, images: ImageSet, held_out: ImageSet, num: int
    ) -> tuple[SampleDistances, Values]:
        """The distances to these held-out images, and those of as many training images; taken once."""
        key = images.fingerprint, images.split, held_out.fingerprint, held_out.split, num
        if key not in self._seen:
            distances = SampleDistances(
                ("fd", "pr"),
                held_out,
                LocalWorker(choose_device(self.runs.use_gpu)),
                num_samples=num,
                network=self.network,
                rows_per_sum=_ROWS_PER_SUM,
            )
            of_data = self._values(distances, draws_of_data(images, _with_num(config, num)))
            self._seen[key] = distances, of_data
        return self._seen[key]

    def _values(self, distances: SampleDistances, draws: Sequence[Tensor]) -> Values:
        """Over the draws; nan where a picture is not finite, or where there are too few."""
        if len(draws[0]) < SMALLEST_NUM:
            nothing = {self.network.measure(what): math.nan for what in ("FD", "precision", "recall")}
            return {"values": nothing, "spread": nothing}
        found = distances(draws, progress=self._check_stop) or {}
        values = {name: value for of in found.values() for name, value in of.mean.items()}
        spread = {name: value for of in found.values() for name, value in of.spread.items()}
        return {"values": values, "spread": spread}

    def _check_stop(self, done: int) -> None:
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


def _draws(trained: TrainedModel, way: Sampling | None, num: int) -> list[Tensor]:
    """The pictures [num, C, S, S] of every draw that the sliced distance is taken of: samples, or of the bank."""
    if way is None:
        assert trained.bank is not None
        return draws_of_bank(trained.bank, _with_num(trained.config, num))
    return [drawn(trained, way, num, seed=seed) for seed in evaluation_seeds(trained.config)]


def _drawing(trained: TrainedModel, way: Sampling | None) -> TrainedModel:
    """The model as it was sampled, for the record."""
    return replace(trained, config=way.applied(trained.config)) if way else trained


def _key(way: Sampling | None) -> str:
    return str(way) if way else "the bank"
