"""Start a sweep. Everything a user can get wrong is checked before Ray starts."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from distmgcd.config import Config
from distmgcd.data import batch_indices, check_shares
from distmgcd.environment import joins_ray, ray_address, threads_asked_for, usable_cpus
from distmgcd.errors import UserError
from distmgcd.launch.start_run import absolute_features, check_gpus, with_absolute_path
from distmgcd.runs import lock
from distmgcd.runs.run_folder import Run
from distmgcd.runs.store import Store
from distmgcd.sweep import ranking
from distmgcd.sweep.file import read_sweep
from distmgcd.sweep.parallel_trials import TrialResources, resources_that_fit
from distmgcd.sweep.plan import Sweep
from distmgcd.sweep.read_trial import read_trials
from distmgcd.sweep.search import proposer_of
from distmgcd.sweep.space import grid_points, random_point
from distmgcd.sweep.sweep_state import SweepState, SweepStopped
from distmgcd.sweep.trial import Trial
from distmgcd.sweep.trial_files import SWEEP_FILE, claim

Show = Callable[[dict[str, Any]], None]
Stop = Callable[[], bool]

_LOOKED_AT = 200  # points of a space whose data are looked at beforehand


def tune(
    sweep: Sweep | str,
    *,
    storage_path: str = "sweeps",
    name: str | None = None,
    concurrent: int | None = None,
    workers_per_trial: int | None = None,
    use_gpu: bool | None = None,
    resume: bool = False,
    wait_for_resources: bool = False,
    show: Show | None = None,
    stop: Stop = lambda: False,
) -> Any:
    """Run a sweep on Ray Tune, or go on with the one of this name; returns ray.tune.ResultGrid, one result a trial.

    sweep: read by distmgcd.read_sweep, or its name or file. concurrent: trials at a time; None takes as many as fit.
    workers_per_trial: Ray Train workers of each, 0 trains in the trial's own process; None takes the sweep's.
    wait_for_resources: on a cluster without room, wait until nodes join, even if only a person can add them.
    show is called with every event. stop is asked all the time; once it is true the trials that run are saved, and
    the sweep leaves. Raises UserError, RunFailed and distmgcd.sweep.sweep_state.SweepStopped.
    """
    sweep = read_sweep(sweep) if isinstance(sweep, str) else sweep
    if workers_per_trial is not None:
        sweep = replace(sweep, workers_per_trial=workers_per_trial)
    sweep = replace(
        sweep,
        base={**sweep.base, "data.path": with_absolute_path(sweep.preset_of({})).data.path},
        features=absolute_features(sweep.features),
    )
    store = Run.at(storage_path, sweep.name if name is None else name).store
    sweep = replace(sweep, name=Path(store.location).name)
    use_gpu = check_gpus(use_gpu, max(1, sweep.workers_per_trial), option="--workers-per-trial")
    asked = {"concurrent": concurrent, "use_gpu": use_gpu}
    # How large a Ray is that is not ours is seen once we are there.
    here = None if joins_ray() else _trial_resources(sweep, "this machine", usable_cpus(), _gpus_here(), **asked)
    proposer_of(sweep)  # whether what the search needs is installed
    if resume and store.exists(SWEEP_FILE) and (found := _found_ended(store, sweep, show)):
        return found
    _check_data(sweep, show)

    def begin(resources: TrialResources) -> SweepState:
        claim(store, sweep, resume=resume)
        sweep_state = SweepState(store, sweep, concurrent=resources.concurrent, show=show)
        sweep_state.show_kept()
        return sweep_state

    with lock.locked(store):
        from distmgcd.on_ray.tune.driver import tune_on_ray
        from distmgcd.on_ray.tune.trial_resources import ClusterTrialResources

        where = "the cluster" if ray_address() else "the Ray of this process"
        there = ClusterTrialResources(
            of=lambda cpus, gpus: _trial_resources(sweep, where, cpus, gpus, **asked),
            num_workers=(concurrent or 1) * max(1, sweep.workers_per_trial),
            each={"CPU": _threads(), **({"GPU": 1} if asked["use_gpu"] else {})},
        )
        if show:
            show({"event": "doing", "text": "Starting Ray ..."})
        try:
            found, sweep_state = tune_on_ray(
                sweep, store, here or there, begin, wait_for_resources=wait_for_resources, show=show, stop=stop
            )
        except SweepStopped:
            SweepState(store, sweep).write_results(stopped=True)
            raise
        sweep_state.write_results()
    return found


def _found_ended(store: Store, sweep: Sweep, show: Show | None) -> Any:
    """The ResultGrid of a sweep all of whose trials have ended, and its results written anew, without starting Ray.

    None if there is something left to do, or if Tune's own files are lost: then every trial reports again.
    """
    with lock.locked(store):
        claim(store, sweep, resume=True)
        sweep_state = SweepState(store, sweep, show=show)
        if not sweep_state.all_ended():
            return None
        from distmgcd.on_ray.tune.driver import earlier_results

        found = earlier_results(store, len(sweep_state.kept()))
        if found is not None:
            sweep_state.show_kept()
            sweep_state.write_results()
        return found


def outcome(sweep: Sweep, folder: str) -> tuple[list[Trial], Trial | None]:
    """Every trial that a sweep's folder holds, and the best of them."""
    trials = read_trials(Store(folder), sweep)
    return trials, ranking.best(trials)


def _trial_resources(
    sweep: Sweep, where: str, cpus: int, gpus: int, *, concurrent: int | None, use_gpu: bool
) -> TrialResources:
    """How many trials to run at a time. Raises UserError if there is no room for as many as were asked for."""
    workers = sweep.workers_per_trial
    if sweep.scheduler.kind == "pbt" and workers:
        # With workers a population cannot take turns: all of it trains at once.
        if concurrent not in (None, sweep.num_trials):
            raise UserError(
                f"With --workers-per-trial a population trains all at once, but --concurrent is {concurrent} of its "
                f"{sweep.num_trials} trials; leave it out, give --trials {concurrent}, or take --workers-per-trial 0."
            )
        fits = min(cpus // (workers * _threads()), gpus // workers if use_gpu else cpus)
        if fits < sweep.num_trials:
            fewer = f"--trials {fits}, or " if fits > 1 else ""
            raise UserError(
                f"With --workers-per-trial {workers} a population trains all at once, but of its {sweep.num_trials} "
                f"trials only {fits} fit on {where}; give {fewer}--workers-per-trial 0, whose trials take turns."
            )
        concurrent = sweep.num_trials
    return resources_that_fit(
        where=where,
        cpus=cpus,
        gpus=gpus,
        workers=workers,
        threads=_threads(),
        use_gpu=use_gpu,
        concurrent=concurrent,
        num_trials=sweep.num_trials,
    )


def _gpus_here() -> int:
    import torch

    return torch.cuda.device_count()


def _threads() -> int:
    """Of a worker: 1, or what OMP_NUM_THREADS says. Raises UserError."""
    return threads_asked_for() or 1


def _check_data(sweep: Sweep, show: Show | None) -> None:
    """See that the images are there for every schedule, and prepare them, so that trials do not all do it at once."""
    from distmgcd.launch.start_lines import warnings_of
    from distmgcd.models.assemble import open_held_out_images, open_training_images

    check_shares_of_trials(sweep)
    looked_at: dict[Any, Config] = {}
    for config in map(sweep.config_of, _some_points(sweep)):
        looked_at.setdefault((config.data, config.image_size, config.learning.global_batch_size), config)
    warnings: dict[str, None] = {}
    for config in looked_at.values():
        batch = config.learning.global_batch_size
        images, held_out = open_training_images(config), open_held_out_images(config)
        batch_indices(0, num_images=len(images), global_batch_size=batch, seed=config.seed)
        warnings |= dict.fromkeys(warnings_of(config, images, held_out))
    if show:
        for text in warnings:
            show({"event": "warning", "text": text})
    _check_features(next(iter(looked_at.values())), show)


def check_shares_of_trials(sweep: Sweep) -> None:
    """Raise UserError where the workers of a trial cannot share its batch."""
    workers = max(1, sweep.workers_per_trial)
    for learning in (sweep.config_of(point).learning for point in _some_points(sweep)):
        check_shares(learning.global_batch_size, workers, workers, block=learning.block_size or 1)


def _check_features(config: Config, show: Show | None) -> None:
    """See that the network is there which trials are measured in; show is called with what to think of its numbers."""
    if config.evaluate.features is None:
        return
    import torch

    from distmgcd.evaluation.distances.measure import sample_distances
    from distmgcd.models.assemble import open_held_out_images
    from distmgcd.workers.collectives import LocalWorker

    distances = sample_distances(config, open_held_out_images(config), LocalWorker(torch.device("cpu")))
    if show and (text := distances.warning()):
        show({"event": "warning", "text": text})


def _some_points(sweep: Sweep) -> list[dict[str, Any]]:
    if sweep.search == "grid":
        return list(grid_points(sweep.space))[:_LOOKED_AT]
    numbers = range(1, 1 + min(_LOOKED_AT, sweep.num_trials))
    return [random_point(sweep.space, seed=sweep.seed, number=number) for number in numbers]
