"""Train a run of a comparison and measure it, or read what was measured: RUN/scores.json.

A run is named by a checksum of its settings. So methods share the runs they have in common, a plan that was changed
keeps those that it still asks for, and the same command goes on where it stopped.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from distmgcd.comparison.comparison_plan import Sampling
from distmgcd.config import Config
from distmgcd.evaluation.distances.draws import evaluation_seeds
from distmgcd.evaluation.distances.measure import sample_distances
from distmgcd.launch import start_run
from distmgcd.models.assemble import open_held_out_images
from distmgcd.models.sampling import sample_in_batches
from distmgcd.models.trained_model import TrainedModel, load
from distmgcd.runs import strict_json
from distmgcd.runs.retention import score
from distmgcd.runs.run_folder import Run
from distmgcd.runs.store import Store
from distmgcd.training.divergence import Diverged
from distmgcd.workers.collectives import LocalWorker, choose_device

FILE = "scores.json"

Scores = dict[str, Any]  # "samples": {way: {"swd", "spread"}}, and "bank", "seconds", ...; or "diverged": why


@dataclass(frozen=True)
class Runs:
    """All runs of a comparison, in one folder."""

    folder: str
    use_gpu: bool | None = None
    show: start_run.Show | None = None
    stop: start_run.Stop = lambda: False

    def read(self, config: Config, ways: Sequence[Sampling]) -> Scores | None:
        """What was measured of this run; None if that is not all of it."""
        found = self._stored(config)
        return found if found and ("diverged" in found or not _missing(ways, found)) else None

    def measure(self, config: Config, ways: Sequence[Sampling]) -> Scores:
        """Train the run to its end, or go on with it, and measure what was not measured yet. Raises Stopped."""
        try:
            result = start_run.debug(
                config,
                storage_path=self.folder,
                name=name_of(config),
                use_gpu=self.use_gpu,
                plain=False,
                show=self.show,
                stop=self.stop,
            )
            scores = self._scores(config, ways, result)
        except Diverged as event:
            scores = {"diverged": str(event)}
        Store(self.path(config)).write(FILE, strict_json.dumps(scores, indent=1).encode())
        return scores

    def load(self, config: Config) -> TrainedModel:
        return load(self.path(config), device=choose_device(self.use_gpu))

    def _stored(self, config: Config) -> Scores | None:
        store = Store(self.path(config))
        if not store.exists(FILE) or Run.open(self.path(config)).config() != start_run.with_absolute_path(config):
            return None
        return strict_json.loads(store.read(FILE))

    def path(self, config: Config) -> str:
        return f"{self.folder}/{name_of(config)}"

    def _scores(self, config: Config, ways: Sequence[Sampling], result: dict[str, Any]) -> Scores:
        def of_result(key: str) -> dict[str, Any]:
            return {"swd": result["swd"][key], "spread": result["swd_spread"][key]}

        found, trained = self._stored(config) or {"samples": {}}, self.load(config)
        others = ("bank", "untrained", "data")
        return {
            "samples": found["samples"]  # of a method that shares this run, say
            | {
                str(way): of_result("samples") if _is_that_of_the_run(way, config) else _measured(trained, way)
                for way in _missing(ways, found)
            },
            **{key: of_result(key) for key in others if key in result["swd"]},
            "seconds": result["seconds"],
            "protocol": result["protocol"],
        }


def name_of(config: Config) -> str:
    """The name of its run: the same for the same config, wherever the command is given.

    Settings that have their defaults do not count: a run keeps its name when there is a new one. The run itself keeps
    all of its config, and is not gone on with by another.
    """
    set_by_user = start_run.with_absolute_path(config).model_dump(mode="json", exclude_defaults=True)
    return hashlib.sha256(json.dumps(set_by_user, sort_keys=True).encode()).hexdigest()[:12]


def drawn(trained: TrainedModel, way: Sampling, num: int, *, seed: int) -> Tensor:
    """Fresh samples [num, C, S, S] in [-1, 1], drawn in this way, on the CPU."""
    levels = sample_in_batches(
        trained.model,
        trained.starts,
        torch.arange(num),
        way.applied(trained.config),
        seed=seed,
        device=trained.device,
    )
    return levels[-1].clamp(-1.0, 1.0).cpu()


def mean_distance(of_sizes: dict[str, float]) -> float:
    """Over sizes, as checkpoints are chosen by it: infinite where one is nan."""
    value = score(of_sizes, "swd")
    assert value is not None
    return value


def _missing(ways: Sequence[Sampling], found: Scores) -> list[Sampling]:
    return [way for way in ways if str(way) not in found["samples"]]


def _is_that_of_the_run(way: Sampling, config: Config) -> bool:
    """Whether the run's own evaluation drew samples in this way."""
    return way.times == 1 and way.applied(config).start.of_samples == config.start.of_samples


def _measured(trained: TrainedModel, way: Sampling) -> dict[str, Any]:
    config = trained.config
    sets = [drawn(trained, way, config.evaluate.num_samples, seed=seed) for seed in evaluation_seeds(config)]
    found = (sample_distances(config, open_held_out_images(config), LocalWorker(trained.device))(sets) or {})["swd"]
    return {"swd": found.mean, "spread": found.spread}


Scorer = Callable[[Config, Sequence[Sampling]], Scores | None]
