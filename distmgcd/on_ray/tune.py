"""A sweep on Ray Tune: Tune starts, stops and restarts trials; what comes of them is kept in the sweep's own folder."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray import tune
from ray.tune.experiment import Trial as RayTrial
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from distmgcd.on_ray.cluster import connected
from distmgcd.on_ray.trial_process import run_trial
from distmgcd.sweep.books import Books, reason_of_pruning
from distmgcd.sweep.notes import ENDED, TRIALS
from distmgcd.sweep.plan import Sweep, name_of, number_of
from distmgcd.sweep.room import Room
from distmgcd.sweep.search import Proposer, proposer_of
from distmgcd.train.store import Store

MAX_FAILURES = 3  # restarts of a trial whose process died, each from its newest checkpoint


def tune_on_ray(sweep: Sweep, store: Store, room: Room, books: Books) -> tune.ResultGrid:
    """Run every trial that has not ended yet. Raises UserError."""
    search = Trials(sweep, books, proposer_of(sweep, [*books.kept(), *books.begun()]), limit=_limit(sweep, room))
    with _quiet(), connected(num_cpus=room.cpus, log_to_driver=False):
        trainable = tune.with_parameters(run_trial, sweep=sweep, location=store.path(TRIALS), room=room)
        tuner = tune.Tuner(
            tune.with_resources(trainable, _resources(room)),
            tune_config=tune.TuneConfig(
                metric="objective",
                mode="min",
                search_alg=search,
                scheduler=_scheduler(sweep),
                num_samples=search.num_trials,
                reuse_actors=room.workers == 0,  # with a Train run inside, Tune would wait for it for ever
                trial_name_creator=_name,
                trial_dirname_creator=_name,
            ),
            run_config=tune.RunConfig(
                name="ray",
                storage_path=store.location,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=MAX_FAILURES),
                callbacks=[_Told(sweep, books, search)],
            ),
        )
        return tuner.fit()


class Trials(Searcher):
    """Hands trials to Tune: those that were there before, then new ones."""

    def __init__(self, sweep: Sweep, books: Books, proposer: Proposer, *, limit: int | None):
        """limit: trials at a time; None leaves it to the CPUs."""
        super().__init__(metric="objective", mode="min")
        self._sweep, self._proposer, self._limit = sweep, proposer, limit
        self._waiting = [*books.kept(), *books.begun()]
        self._next_number = max((number_of(note.name) for note in self._waiting), default=0) + 1
        self._numbers: dict[str, int] = {}  # by Tune's name of a trial that runs
        self.draws = {number_of(note.name): note.draws for note in self._waiting}
        self.num_trials = len(self._waiting) + max(0, sweep.num_trials - self._next_number + 1)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self._limit is not None and len(self._numbers) >= self._limit:
            return None
        if self._waiting:
            note = self._waiting.pop(0)
            number, knobs, reason = number_of(note.name), note.knobs, note.reason
            kept = note.state if note.state in ENDED else None
        elif self._next_number <= self._sweep.num_trials:
            number, kept, reason = self._next_number, None, ""
            knobs, self.draws[number] = self._proposer.propose(number)
            self._next_number += 1
        else:
            return Searcher.FINISHED
        self._numbers[trial_id] = number
        return {"number": number, "knobs": knobs, "kept": kept, "reason": reason}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self._proposer.report(self._numbers[trial_id], result["evaluation"], result["objective"])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        number = self._numbers.pop(trial_id)
        finished = result is not None and not error and result["state"] == "finished"
        self._proposer.tell(number, result["objective"] if finished else None)

    def save(self, checkpoint_path: str) -> None:
        """Nothing is restored from Tune's books, but Tune wants a file."""
        with open(checkpoint_path, "wb"):
            pass

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Told(tune.Callback):
    """Passes on to our books what Tune says of trials."""

    def __init__(self, sweep: Sweep, books: Books, search: Trials):
        self._sweep, self._books, self._search = sweep, books, search

    def on_trial_start(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **_: Any) -> None:
        number = trial.config["number"]
        self._books.started(number, trial.config["knobs"], self._search.draws.get(number, {}))

    def on_trial_result(
        self, iteration: int, trials: list[RayTrial], trial: RayTrial, result: dict[str, Any], **_: Any
    ) -> None:
        if result["state"] == "running":
            self._books.evaluated(trial.config["number"], {key: result[key] for key in ("updates", "objective")})

    def on_trial_complete(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **_: Any) -> None:
        result = trial.last_result
        state, reason = result["state"], result["reason"]
        if state == "running":  # it had more to say: the scheduler stopped it
            state, reason = "pruned", reason_of_pruning(self._sweep, self._books.trials(), result)
        self._books.ended(trial.config["number"], state, reason)

    def on_trial_error(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **_: Any) -> None:
        self._books.ended(trial.config["number"], "failed", _last_line(trial))

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Asha(AsyncHyperBandScheduler):
    """Hears again what trials of an earlier start have shown, and does not stop them for it."""

    def on_trial_result(self, tune_controller: Any, trial: RayTrial, result: dict[str, Any]) -> str:
        action = super().on_trial_result(tune_controller, trial, result)
        return TrialScheduler.CONTINUE if result.get("kept") else action


def _scheduler(sweep: Sweep) -> TrialScheduler:
    """By our own count of evaluations, for Tune's begins at 1 again when a trial does."""
    if sweep.scheduler.kind == "asha":
        return _Asha(
            time_attr="evaluation",
            max_t=sweep.budget.evaluations,
            grace_period=sweep.scheduler.grace,
            reduction_factor=sweep.scheduler.reduction,
        )
    return FIFOScheduler()


def _resources(room: Room) -> Any:
    """Of the trial itself. With workers it takes no CPU, or the trials that wait for theirs would hold them all."""
    if room.workers:
        return {"node:__internal_head__": 0.001}
    return {"CPU": room.threads, **({"GPU": 1} if room.use_gpu else {})}


def _limit(sweep: Sweep, room: Room) -> int | None:
    return room.concurrent


def _name(trial: RayTrial) -> str:
    return name_of(trial.config["number"])


def _last_line(trial: RayTrial) -> str:
    error = trial.get_error()
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return (
        f"Its process failed {trial.num_failures} times, the last with: {lines[-1].strip()}" if lines else "It failed."
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """What Tune reads from the environment: no log files beside ours, Ctrl-C is for us, no advice on the terminal."""
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
