"""A run on Ray Train: every worker walks the chains of its share of the images, DDP averages the gradients."""

import json
import os
from typing import Any

import ray.train
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer, get_device

from distmgcd.config import Config, make_config
from distmgcd.errors import UserError
from distmgcd.on_ray.cluster import connected
from distmgcd.train.run import Run
from distmgcd.train.saving import NotSaved
from distmgcd.train.watch import Diverged

MAX_FAILURES = 3  # restarts of the worker group, each from the newest checkpoint


def train_on_ray(config: Config, run: Run, *, num_workers: int, use_gpu: bool) -> dict[str, Any]:
    """Train with num_workers Ray Train workers; returns what result.json holds. Raises UserError and Diverged."""
    cpus = os.cpu_count() or 1
    with connected(num_cpus=max(cpus, num_workers), log_to_driver=not run.store.is_local):
        trainer = TorchTrainer(
            _train_worker,
            train_loop_config={"config": config.model_dump(mode="json"), "run": run.store.location},
            torch_config=TorchConfig(timeout_s=600),
            scaling_config=ScalingConfig(
                num_workers=num_workers,
                use_gpu=use_gpu,
                resources_per_worker={"CPU": max(1, cpus // num_workers), **({"GPU": 1} if use_gpu else {})},
            ),
            # Ray keeps its own books in a folder of their own; checkpoints are ours, the same with and without Ray.
            run_config=RunConfig(
                name="ray",
                storage_path=run.store.location,
                failure_config=FailureConfig(max_failures=MAX_FAILURES, controller_failure_limit=3),
            ),
        )
        try:
            outcome = json.loads(trainer.fit().return_value)
        except ray.train.TrainingFailedError as error:
            raise _cause(error) from error
    if "not_saved" in outcome:
        raise NotSaved(outcome["not_saved"])
    if "diverged" in outcome:
        raise Diverged(outcome["diverged"])
    return outcome


def _train_worker(settings: dict[str, Any]) -> str:
    """What every worker runs. JSON, because Ray keeps the return value in its own books."""
    from distmgcd.train.loop import train  # torch is imported in the worker, not while the driver plans
    from distmgcd.train.worker import ProcessGroupWorker

    run = Run.open(settings["run"])
    worker = ProcessGroupWorker(get_device(), show=None if run.store.is_local else _print)
    try:
        return json.dumps(train(make_config(settings["config"]), worker, run))
    except Diverged as event:  # every rank sees it at the same update; a restart would only see it again
        return json.dumps({"diverged": str(event)})
    except NotSaved as event:  # at the very end, which the other ranks have reached; a full disk does not empty itself
        return json.dumps({"not_saved": str(event)})


def _print(record: dict[str, Any]) -> None:
    """Where the driver cannot read the log as it grows, Ray forwards what a worker prints."""
    print(json.dumps(record), flush=True)


def _cause(error: Exception) -> Exception:
    """The user's mistake that a worker met, or the failure itself."""
    failures = getattr(error, "worker_failures", {})
    for failure in failures.values():
        cause: BaseException | None = failure
        while cause is not None:
            if isinstance(cause, UserError):
                return cause
            cause = cause.__cause__ or getattr(cause, "cause", None)
    return error
