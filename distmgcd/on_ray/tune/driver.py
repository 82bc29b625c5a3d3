"""A sweep on Ray Tune: Tune starts, stops and restarts trials; what comes of them is kept in the sweep's own folder."""

import logging
import os
import queue
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ray import tune
from ray.tune import ExperimentAnalysis
from ray.tune.experiment import Trial as RayTrial
from ray.tune.logger import JsonLoggerCallback

from distmgcd.on_ray.cluster.connect import connected
from distmgcd.on_ray.cluster.resources import check_nodes
from distmgcd.on_ray.train.failures import failure_of, ray_errors_as_run_failed
from distmgcd.on_ray.train.mailbox import RayMailbox
from distmgcd.on_ray.tune.schedulers import scheduler_of
from distmgcd.on_ray.tune.searcher import TrialSource
from distmgcd.on_ray.tune.trial_process import STOP, run_trial
from distmgcd.on_ray.tune.trial_resources import ClusterTrialResources
from distmgcd.on_ray.tune.tune_callback import TuneCallback
from distmgcd.runs.store import Store
from distmgcd.sweep.parallel_trials import TrialResources
from distmgcd.sweep.plan import Sweep, name_of
from distmgcd.sweep.search import proposer_of
from distmgcd.sweep.sweep_state import SweepState
from distmgcd.sweep.trial_files import TRIALS

MAX_FAILURES = 3  # restarts of a trial whose process died, each from its newest checkpoint

_AGAIN = (
    "The same command with --resume goes on: ended trials are kept, the others go on from their newest checkpoints."
)
_TUNE_FOLDER = "ray"  # their folder in the sweep's
_METRIC, _MODE = "objective", "min"
_LOOK_EVERY_S = 0.2
_SECONDS_TO_END = 10.0  # for Tune, once no trial runs any more


def tune_on_ray(
    sweep: Sweep,
    store: Store,
    resources: TrialResources | ClusterTrialResources,
    begin: Callable[[TrialResources], SweepState],
    *,
    wait_for_resources: bool = False,
    show: Callable[[dict[str, Any]], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[tune.ResultGrid, SweepState]:
    """Run every trial that has not ended yet.

    begin: called once it is known that there is room. wait_for_resources: for nodes that a cluster does not have yet;
    show is called meanwhile. stop says whether the sweep is asked to save its trials and leave. Raises UserError,
    RunFailed and SweepStopped.
    """
    here = resources if isinstance(resources, TrialResources) else None
    sweep_state = begin(here) if here else None
    dashboard = sweep.workers_per_trial > 0  # else nobody asks it
    say = (lambda text: show({"event": "warning", "text": text})) if show else (lambda _: None)
    own = {"num_cpus": here.cpus if here else 0, "log_to_driver": False, "dashboard": dashboard}
    with _quiet(), connected(**own, say=say), ray_errors_as_run_failed(_AGAIN):
        if isinstance(resources, ClusterTrialResources):
            resources = resources.wait(even_if_never=wait_for_resources, show=show)
        if sweep_state is None:
            sweep_state = begin(resources)
            check_nodes(store, sweep.base["data.path"])
        mailbox = RayMailbox.new()
        search = TrialSource(
            sweep,
            sweep_state,
            proposer_of(sweep, [*sweep_state.kept(), *sweep_state.begun()]),
            limit=resources.concurrent,
        )
        callback = TuneCallback(sweep, sweep_state, search)
        found = _follow(_tuner(sweep, store, resources, search, callback, mailbox), callback, mailbox, stop)
        mailbox.clear()
        return found, sweep_state


def earlier_results(store: Store, num_trials: int) -> tune.ResultGrid | None:
    """What Tune's own files of a sweep that has ended say, without a Ray that runs; None if they are not whole."""
    try:
        with _quiet():
            found = tune.ResultGrid(
                ExperimentAnalysis(store.path(_TUNE_FOLDER), default_metric=_METRIC, default_mode=_MODE)
            )
    except Exception:  # whatever is wrong with files that only Tune reads
        return None
    whole = len(found) == num_trials and found.num_terminated == num_trials
    return found if whole else None


def _follow(
    tuner: tune.Tuner, callback: TuneCallback, mailbox: RayMailbox, stop: Callable[[], bool]
) -> tune.ResultGrid:
    """What fit() returns; meanwhile this thread passes on a request to stop. Raises SweepStopped if there was one.

    fit() has a thread of its own, for in the main thread Ray would take Ctrl-C for itself.
    """
    ended: queue.Queue[Callable[[], tune.ResultGrid]] = queue.Queue()
    threading.Thread(target=_fit, args=(tuner, ended), daemon=True, name="fit").start()
    while not stop():
        with suppress(queue.Empty):
            return ended.get(timeout=_LOOK_EVERY_S)()
    mailbox.put(STOP, True)
    callback.stop()
    while callback.running() and ended.empty():
        time.sleep(_LOOK_EVERY_S)
    with suppress(queue.Empty):
        ended.get(timeout=_SECONDS_TO_END)()
    raise callback.stopped()


def _fit(tuner: tune.Tuner, ended: queue.Queue) -> None:
    try:
        found = tuner.fit()
        ended.put(lambda: found)
    except BaseException as error:  # also when Ray is shut down meanwhile, which nobody waits for
        ended.put(lambda error=error: _raise(failure_of(error, _AGAIN)))


def _raise(error: BaseException) -> Any:
    raise error


def _tuner(
    sweep: Sweep,
    store: Store,
    resources: TrialResources,
    search: TrialSource,
    callback: TuneCallback,
    mailbox: RayMailbox,
) -> tune.Tuner:
    # A population takes turns on the CPUs, so Tune wants to know all of it beforehand, and no search beside it.
    population = sweep.scheduler.kind == "pbt"
    trainable = tune.with_parameters(
        run_trial, sweep=sweep, location=store.path(TRIALS), resources=resources, mailbox=mailbox.run
    )
    return tune.Tuner(
        tune.with_resources(trainable, resources_of(resources)),
        param_space={"trial": tune.grid_search(search.all_at_once())} if population else {},
        tune_config=tune.TuneConfig(
            metric=_METRIC,
            mode=_MODE,
            search_alg=None if population else search,
            scheduler=scheduler_of(sweep, callback.sweep_state),
            num_samples=1 if population else search.num_trials,
            reuse_actors=resources.workers == 0,  # with a Train run inside, Tune would wait for it for ever
            trial_name_creator=_name,
            trial_dirname_creator=_name,
        ),
        run_config=tune.RunConfig(
            name=_TUNE_FOLDER,
            storage_path=store.location,
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=MAX_FAILURES),
            callbacks=[callback, JsonLoggerCallback()],  # the latter for ResultGrid's data frames
        ),
    )


def resources_of(resources: TrialResources) -> Any:
    """Of the trial itself. With workers it takes no CPU, or the trials that wait for theirs would hold them all."""
    if resources.workers:
        return {"node:__internal_head__": 0.001}
    return {"CPU": resources.threads, **({"GPU": 1} if resources.use_gpu else {})}


def _name(trial: RayTrial) -> str:
    return name_of(trial.config["trial"]["number"])


@contextmanager
def _quiet() -> Iterator[None]:
    """What Tune reads from the environment: no log files but one, Ctrl-C is for us, no advice on the terminal."""
    settings = {
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_SIGINT_HANDLER": "1",
        "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
        "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
        "RAY_AIR_NEW_OUTPUT": "0",
    }
    ours = {name: value for name, value in settings.items() if name not in os.environ}
    os.environ.update(ours)
    logger = logging.getLogger("ray.tune")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Consider boosting PBT performance")
            yield
    finally:
        logger.setLevel(level)
        for name in ours:
            os.environ.pop(name, None)
