"""A sweep on Ray Tune: Tune starts, stops and restarts trials; what comes of them is kept in the sweep's own folder."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial as RayTrial
from ray.tune.logger import JsonLoggerCallback

from distmgcd.errors import UserError
from distmgcd.on_ray.cluster import connected
from distmgcd.on_ray.job_note import note_update
from distmgcd.on_ray.nodes import check_nodes
from distmgcd.on_ray.room import Resources, num_once_grown, wait_for_room
from distmgcd.on_ray.schedulers import scheduler_of
from distmgcd.on_ray.trial_process import run_trial
from distmgcd.on_ray.trials import Trials
from distmgcd.runs.store import Store
from distmgcd.sweep.books import Books, reason_of_pruning
from distmgcd.sweep.notes import TRIALS
from distmgcd.sweep.plan import Sweep, name_of
from distmgcd.sweep.room import Room
from distmgcd.sweep.search import proposer_of

MAX_FAILURES = 3  # restarts of a trial whose process died, each from its newest checkpoint


@dataclass(frozen=True)
class RoomOnCluster:
    """How many trials a cluster has room for, once it is known how large it is."""

    of: Callable[[int, int], Room]  # its CPUs and GPUs; raises UserError if that is too little
    num_workers: int  # that must fit at least
    each: Resources


def tune_on_ray(
    sweep: Sweep,
    store: Store,
    room: Room | RoomOnCluster,
    begin: Callable[[Room], Books],
    *,
    wait_for_resources: bool = False,
    show: Callable[[dict[str, Any]], None] | None = None,
) -> tuple[tune.ResultGrid, Books]:
    """Run every trial that has not ended yet.

    begin: called once it is known that there is room. wait_for_resources: for nodes that a cluster does not have yet;
    show is told of it. Raises UserError.
    """
    here = room if isinstance(room, Room) else None
    books = begin(here) if here else None
    with _quiet(), connected(num_cpus=here.cpus if here else 0, log_to_driver=False):
        if books is None:
            room = _room_there(room, even_if_never=wait_for_resources, show=show)
            books = begin(room)
            check_nodes(store, sweep.base["data.path"])
        return _fit(sweep, store, room, books), books


def _room_there(room: RoomOnCluster, *, even_if_never: bool, show: Callable[[dict[str, Any]], None] | None) -> Room:
    """The room on the cluster, as soon as there is enough. Raises UserError."""
    found = ray.cluster_resources()
    try:
        return room.of(int(found.get("CPU", 0)), int(found.get("GPU", 0)))
    except UserError:
        if not even_if_never and num_once_grown(room.each) < room.num_workers:
            raise

    def tell(event: dict[str, Any]) -> None:
        if show is not None:
            show({"event": "warning", "text": event["event"]})

    wait_for_room(room.num_workers, room.each, even_if_never=True, show=tell)
    found = ray.cluster_resources()
    return room.of(int(found.get("CPU", 0)), int(found.get("GPU", 0)))


def _fit(sweep: Sweep, store: Store, room: Room, books: Books) -> tune.ResultGrid:
    search = Trials(sweep, books, proposer_of(sweep, [*books.kept(), *books.begun()]), limit=room.concurrent)
    # A population takes turns on the CPUs, so Tune wants to know all of it beforehand, and no search beside it.
    population = sweep.scheduler.kind == "pbt"
    trainable = tune.with_parameters(run_trial, sweep=sweep, location=store.path(TRIALS), room=room)
    tuner = tune.Tuner(
        tune.with_resources(trainable, _resources(room)),
        param_space={"trial": tune.grid_search(search.all_at_once())} if population else {},
        tune_config=tune.TuneConfig(
            metric="objective",
            mode="min",
            search_alg=None if population else search,
            scheduler=scheduler_of(sweep, books),
            num_samples=1 if population else search.num_trials,
            reuse_actors=room.workers == 0,  # with a Train run inside, Tune would wait for it for ever
            trial_name_creator=_name,
            trial_dirname_creator=_name,
        ),
        run_config=tune.RunConfig(
            name="ray",
            storage_path=store.location,
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=MAX_FAILURES),
            callbacks=[_Told(sweep, books, search), JsonLoggerCallback()],  # the latter for ResultGrid's data frames
        ),
    )
    return tuner.fit()


class _Told(tune.Callback):
    """Passes on to our books what Tune says of trials."""

    def __init__(self, sweep: Sweep, books: Books, search: Trials):
        self._sweep, self._books, self._search = sweep, books, search

    def on_trial_start(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **_: Any) -> None:
        number = trial.config["trial"]["number"]
        draws = self._search.draws.get(number, {})
        self._books.started(number, trial.config["trial"]["knobs"], draws, num_failures=trial.num_failures)

    def on_trial_result(
        self, iteration: int, trials: list[RayTrial], trial: RayTrial, result: dict[str, Any], **_: Any
    ) -> None:
        if result["state"] == "running":
            self._books.evaluated(
                trial.config["trial"]["number"], {key: result[key] for key in ("updates", "objective")}
            )

    def on_trial_complete(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **_: Any) -> None:
        result = trial.last_result
        state, reason = result["state"], result["reason"]
        if state == "running":  # it had more to say: the scheduler stopped it
            state, reason = "pruned", reason_of_pruning(self._sweep, self._books.trials(), result)
        self._books.ended(trial.config["trial"]["number"], state, reason)
        self._note()

    def on_trial_error(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **_: Any) -> None:
        self._books.ended(trial.config["trial"]["number"], "failed", _last_line(trial))
        self._note()

    def _note(self) -> None:
        ended = sum(trial.state not in ("waiting", "running") for trial in self._books.trials())
        note_update(f"{ended}/{self._sweep.num_trials} trials")

    def __getstate__(self) -> dict[str, Any]:
        return {}


def _resources(room: Room) -> Any:
    """Of the trial itself. With workers it takes no CPU, or the trials that wait for theirs would hold them all."""
    if room.workers:
        return {"node:__internal_head__": 0.001}
    return {"CPU": room.threads, **({"GPU": 1} if room.use_gpu else {})}


def _name(trial: RayTrial) -> str:
    return name_of(trial.config["trial"]["number"])


def _last_line(trial: RayTrial) -> str:
    error = trial.get_error()
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return (
        f"Its process failed {trial.num_failures} times, the last with: {lines[-1].strip()}" if lines else "It failed."
    )


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
        yield
    finally:
        logger.setLevel(level)
        for name in ours:
            os.environ.pop(name, None)
