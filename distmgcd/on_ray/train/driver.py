"""A run on Ray Train: every worker runs the chains of its share of the images, all average their gradients."""

import math
import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from distmgcd.config import Config
from distmgcd.environment import ray_address, usable_cpus
from distmgcd.errors import RunFailed, UserError
from distmgcd.on_ray.cluster.connect import connected, node_cpus
from distmgcd.on_ray.cluster.resources import Resources, check_nodes, wait_for_room
from distmgcd.on_ray.jobs.job_note import JobNote, note_update
from distmgcd.on_ray.train.backend import GroupConfig
from distmgcd.on_ray.train.failures import Failures, failure_of, ray_errors_as_run_failed
from distmgcd.on_ray.train.mailbox import RayMailbox
from distmgcd.on_ray.train.worker_process import pack_callbacks, train_worker
from distmgcd.runs import strict_json
from distmgcd.runs.read_log import LogFollower
from distmgcd.runs.run_folder import Run
from distmgcd.training.callbacks import Callback, Callbacks, ShowRecords
from distmgcd.training.divergence import Diverged
from distmgcd.workers.num_workers import NumWorkers, bounds, cpus_for_each
from distmgcd.workers.stop import Stopped

_POLL_SECONDS = 1.0  # how often Ray looks after its workers
_RESIZE_SECONDS = 10.0  # how often it looks for room for more of them
_LOOK_SECONDS = 0.2  # how often the driver looks after the run
_PATIENCE = 10.0  # seconds, for room in a Ray of this process, which only its own work takes
_COLLECTIVE_SECONDS = 600  # the last resort against a hang; the watchdog is quicker and names the rank
_AGAIN = "The same command goes on from the newest checkpoint, or from the beginning if there is none."

Show = Callable[[dict[str, Any]], None]


def train_on_ray(
    config: Config,
    run: Run,
    *,
    num_workers: NumWorkers,
    use_gpu: bool,
    cpus_per_worker: int | None = None,
    wait_for_resources: bool = False,
    is_trial: bool = False,
    label: str | None = None,
    callbacks: Sequence[Callback] = (),
    followers: Sequence[Callback] = (),
    show: Show | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Train with Ray Train workers; returns what result.json holds.

    wait_for_resources: for nodes that a cluster does not have yet. is_trial: of a sweep, which has looked at the
    cluster already, and gives cpus_per_worker. label: of the run's metrics, its name if None. callbacks: copied to the
    process of rank 0. followers: called here, with the records of the log and with what happens to the workers; show
    likewise, and with what is done before. stop says whether the run is asked to save and leave.
    Raises UserError, Diverged, Stopped and RunFailed.
    """
    least, most = bounds(num_workers)
    cpus = cpus_per_worker or cpus_for_each(most, [usable_cpus()])
    packed = pack_callbacks(callbacks)
    say = (lambda text: show({"event": text})) if show else (lambda _: None)
    own = {"num_cpus": max(usable_cpus(), most * cpus), "log_to_driver": not run.store.is_local}
    on_cluster = ray_address() is not None
    with (
        _settings_of_ray(config, elastic=least < most),
        connected(**own, say=say) as joined,
        ray_errors_as_run_failed(_AGAIN),
    ):
        if stop():
            raise Stopped(None)
        if show is not None and not is_trial:
            workers = most if least == most else f"{least} to {most}"
            show({"start": f"Ray is up; its {workers} worker{'s are' if most > 1 else ' is'} starting."})
        if joined and not cpus_per_worker:
            cpus = cpus_for_each(most, node_cpus())
        each: Resources = {"CPU": cpus, **({"GPU": 1} if use_gpu else {})}
        scaling = scaling_of(num_workers, each)
        if joined and not is_trial:
            wait = {"even_if_never": wait_for_resources, "patience": math.inf if on_cluster else _PATIENCE}
            wait_for_room(least, each, **wait, show=show, stop=stop)
            check_nodes(run.store, config.data.path)
        mailbox = RayMailbox.new()
        settings = {
            "config": config.model_dump(mode="json"),
            "run": run.store.location,
            "mailbox": mailbox.run,
            "on_cluster": on_cluster,
            "label": label or run.name,
            "callbacks": packed,
        }
        here = Callbacks([*followers, *([ShowRecords(show)] if show else [])])
        with LogFollower(run.store) if run.store.is_local or is_trial else nullcontext() as follower:
            outcome = strict_json.loads(_follow(_trainer(settings, scaling), mailbox, here, stop, follower))
        mailbox.clear()
        if not is_trial and (update := outcome.get("update") or outcome.get("stopped")):
            note_update(f"{update}/{config.learning.num_updates}")
    if "diverged" in outcome:
        raise Diverged(outcome["diverged"])
    if "stopped" in outcome:
        raise Stopped(outcome["stopped"])
    return outcome


def scaling_of(num_workers: NumWorkers, each: Resources) -> ScalingConfig:
    """each: the CPUs of a worker, and its GPU if it has one."""
    return ScalingConfig(
        num_workers=num_workers,
        use_gpu="GPU" in each,
        resources_per_worker=each,
        elastic_resize_monitor_interval_s=_RESIZE_SECONDS,
    )


def _trainer(settings: dict[str, Any], scaling: ScalingConfig) -> TorchTrainer:
    elastic = isinstance(scaling.num_workers, tuple)
    return TorchTrainer(
        train_worker,
        train_loop_config=settings,
        torch_config=GroupConfig(timeout_s=_COLLECTIVE_SECONDS),
        scaling_config=scaling,
        # Ray keeps its own records in a folder of their own; checkpoints are ours, the same with and without Ray.
        run_config=RunConfig(
            name="ray",
            storage_path=settings["run"],
            # How often workers may fail is for on_ray/train/failures.py to say, which knows of progress. A group that
            # does not start in time counts apart; of an elastic run some do, whenever a node has left.
            failure_config=FailureConfig(max_failures=-1, controller_failure_limit=1000 if elastic else 3),
            callbacks=[Failures(settings["mailbox"], settings["run"])],
        ),
    )


def _follow(
    trainer: TorchTrainer,
    mailbox: RayMailbox,
    here: Callbacks,
    stop: Callable[[], bool],
    follower: LogFollower | None = None,
) -> str:
    """What fit() returns; meanwhile this thread passes on records and events, and a request to stop.

    fit() has a thread of its own, for in the main thread Ray would take Ctrl-C for itself.
    """
    ended: queue.Queue[Callable[[], str]] = queue.Queue()
    threading.Thread(target=_fit, args=(trainer, ended), daemon=True, name="fit").start()
    num_events, asked, note = 0, False, JobNote(mailbox)
    while True:
        note.update()
        try:
            done = ended.get(timeout=_LOOK_SECONDS)
        except queue.Empty:
            done = None
        while event := mailbox.get(f"event/{num_events}"):
            num_events += 1
            here.on_record(event)
        for record in follower.new() if follower else ():
            here.on_record(record)
        if mistake := mailbox.get("mistake"):
            raise UserError(mistake)
        if failure := mailbox.get("failed"):
            raise RunFailed(**failure, way_on=_AGAIN)
        if done is not None:
            return done()
        if stop() and not asked:
            asked = True
            mailbox.put("stop", True)
            text = "Stopping after this update; a second signal ends the run at once, without saving."
            here.on_record({"event": text})


def _fit(trainer: TorchTrainer, ended: queue.Queue) -> None:
    try:
        value = trainer.fit().return_value
        ended.put(lambda: value)
    except BaseException as error:  # also when Ray is shut down meanwhile, which nobody waits for
        ended.put(lambda error=error: _raise(failure_of(error, _AGAIN)))


def _raise(error: BaseException) -> str:
    raise error


@contextmanager
def _settings_of_ray(config: Config, *, elastic: bool) -> Iterator[None]:
    """What Ray Train reads from the environment of the driver and hands on to its controller and workers."""
    settings = {
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": f"{_POLL_SECONDS}",
        # After our own watchdog, which knows more: it is left with a worker that is frozen while it is alone.
        "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": f"{1.5 * config.watch.max_seconds_stuck + 5:g}",
    }
    if ray_address() is None:  # no node of a Ray on this machine is ever pre-empted
        settings["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] = "0"
    if elastic:  # for up to 20 s Ray counts on a node that has left; a place on nodes that are there takes no time
        settings["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = "5"
    ours = {name: value for name, value in settings.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)
