"""One trial of a sweep, as Tune runs it: an ordinary run, each of whose evaluations is reported to Tune."""

import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ray import tune

from distmgcd.config import Config
from distmgcd.errors import RunFailed, UserError
from distmgcd.on_ray.cluster.metrics import Meter
from distmgcd.on_ray.train.mailbox import RayMailbox
from distmgcd.runs import checkpoint, lock
from distmgcd.runs.run_folder import Run
from distmgcd.runs.store import Store
from distmgcd.sweep.objective import value_of
from distmgcd.sweep.parallel_trials import TrialResources
from distmgcd.sweep.plan import Sweep
from distmgcd.sweep.read_trial import history_of, records_of, trial_of
from distmgcd.sweep.trial import State
from distmgcd.training.divergence import Diverged
from distmgcd.training.fork import fork_from
from distmgcd.workers.stop import Stopped

# Reported of a trial that has no objective: worse than any, but finite, for ASHA takes percentiles of it.
WORST = 1e6

STOP = "stop"  # on the sweep's mailbox
STOPPED = "stopped"  # reported of a trial that was saved where it is, to go on another time

_LOOK_EVERY_S = 0.5
_PATIENCE_S = 60.0  # for the process of the trial's last start to be gone
_CHECKPOINT_PATIENCE_S = 60.0  # for a checkpoint to be written

Report = dict[str, Any]


def run_trial(
    tune_config: dict[str, Any], *, sweep: Sweep, location: str, resources: TrialResources, mailbox: str
) -> None:
    """What Tune calls, in a process of its own.

    tune_config["trial"]: {"number": of the trial, "parameters": {dotted path: value}, "kept": its state if it has ended
    before, "reason": of that, "run": its folder, "start": the checkpoint of another trial that it goes on from, if
    any}.
    location: the folder of all trials. mailbox: where the sweep posts that it is asked to stop.
    """
    settings = tune_config["trial"]
    run = Run.at(location, settings["run"])
    if settings["kept"]:
        _say_again(run, sweep, settings)
        return
    trial = _Trial(run, sweep, settings["parameters"])
    try:
        config = sweep.config_of(settings["parameters"])
        with _held(run.store), _listening(RayMailbox(mailbox)) as asked_to_stop:
            if asked_to_stop():
                raise Stopped(None)
            run.claim(config)
            checkpoint.complete_left_overs(run.store)
            if (start := settings["start"]) and not checkpoint.names(run.store):
                fork_from(run, Run.at(location, start["run"]), start["update"])
            trial.say_history()
            train = _train_here if resources.workers == 0 else _train_with_workers
            train(config, run, trial, resources, asked_to_stop)
    except Diverged as event:
        trial.end("diverged", str(event).partition(" It has done so ")[0])  # a trial does not try again
    except Stopped:
        trial.say(trial.updates, None, state=STOPPED, done=True)
    except UserError as error:
        trial.end("failed", str(error))
    else:
        trial.end("finished")


class _Trial:
    """What Tune has been told of a trial."""

    def __init__(self, run: Run, sweep: Sweep, parameters: dict[str, Any]):
        self.store, self.sweep, self.parameters = run.store, sweep, parameters
        self.updates = 0  # at the last report
        self.failures: list[str] = []  # of its workers, since the last report

    def say_history(self) -> None:
        """What it has been through before its newest checkpoint, for a scheduler that does not remember it.

        Population-based training looks at where trials stand now.
        """
        names = checkpoint.names(self.store)
        newest = checkpoint.update_of(names[-1]) if names else 0
        if self.sweep.scheduler.kind == "pbt":
            self.updates = newest  # the log up to there may be another trial's, and says nothing of this one
            return
        for update, objective in history_of(records_of(self.store), self.sweep.objective):
            if update <= newest and update < self.sweep.budget.updates:
                self.say(update, objective)

    def evaluated(self, record: dict[str, Any]) -> None:
        """Tell Tune, once the checkpoint that goes with it is there: who is stopped here can be taken up here."""
        update = record["update"]
        _wait_for(lambda: self.store.exists(f"{checkpoint.FOLDER}/{checkpoint.name_of(update)}"))
        self.say(update, value_of(record, self.sweep.objective))

    def say(self, update: int, objective: float | None, **more: Any) -> None:
        """Tune may end the trial here, by SystemExit."""
        self.updates = update
        metrics = {
            "evaluation": max(1, update // self.sweep.budget.every),
            "updates": update,
            "objective": min(WORST, WORST if objective is None else objective),
            "state": "running",
            "reason": "",
            "failures": self._new_failures(),
            **more,
        }
        if self.sweep.scheduler.kind != "pbt":
            tune.report(metrics)
            return
        with (
            tempfile.TemporaryDirectory() as folder
        ):  # Tune moves trials with checkpoints only; ours stay where they are
            (Path(folder) / "update").write_text(str(update))
            tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(folder))

    def end(self, state: State, reason: str = "") -> None:
        _say_end(self.store, self.sweep, self.parameters, state, reason, self._new_failures())

    def _new_failures(self) -> list[str]:
        new, self.failures = self.failures, []
        return new


def _say_again(run: Run, sweep: Sweep, settings: dict[str, Any]) -> None:
    """What a trial that has ended before would say: the scheduler and the search are new and have not heard it."""
    trial = _Trial(run, sweep, settings["parameters"])
    for update, objective in history_of(records_of(run.store), sweep.objective):
        if update < sweep.budget.updates:
            trial.say(update, objective, kept=True)
    _say_end(run.store, sweep, settings["parameters"], settings["kept"], settings["reason"])


def _say_end(
    store: Store, sweep: Sweep, parameters: dict[str, Any], state: State, reason: str, failures: Sequence[str] = ()
) -> None:
    """The last report of a trial. done keeps a scheduler from having second thoughts about it."""
    found = trial_of(store.location, parameters=parameters, objective=sweep.objective, state=state, reason=reason)
    good = state in ("finished", "pruned") and found.objective is not None
    tune.report(
        {
            "evaluation": min(sweep.budget.evaluations, found.updates // sweep.budget.every + (state == "diverged"))
            or 1,
            "updates": found.updates,
            "objective": min(WORST, found.objective) if good else WORST,
            **{f"swd/{size}": value for size, value in found.swd.items()},
            **{f"fd/{name}": value for name, value in found.fd.items()},
            "gradient_evaluations": found.gradient_evaluations,
            "images_per_s": found.images_per_s,
            "seconds": found.seconds,
            "run": store.location,
            "state": state,
            "reason": reason,
            "failures": list(failures),
            "done": True,
        }
    )


def _train_here(
    config: Config, run: Run, trial: _Trial, resources: TrialResources, asked_to_stop: Callable[[], bool]
) -> None:
    """The loop of debug mode in this process."""
    import torch

    from distmgcd.training import loop
    from distmgcd.workers.collectives import LocalWorker, choose_device
    from distmgcd.workers.stop import Request

    class TrialWorker(LocalWorker):
        """Reports what it was last shown of an evaluation when the loop has done with it."""

        found: dict[str, Any] | None = None
        metrics = Meter(_label(run), 0)

        def meter(self, record: dict[str, Any], *, images_per_s: float) -> None:
            self.metrics(record, images_per_s)

        def show(self, record: dict[str, Any]) -> None:
            if value_of(record, trial.sweep.objective) is not None:
                self.found = record

        def before_update(self, update: int) -> Request:
            if self.found:
                found, self.found = self.found, None
                trial.evaluated(found)
            return super().before_update(update)

    torch.set_num_threads(resources.threads)
    if not run.store.exists("result.json"):
        loop.train(config, TrialWorker(choose_device(resources.use_gpu), stop=asked_to_stop), run)


def _label(run: Run) -> str:
    """SWEEP/TRIAL, for trials of every sweep have the same names."""
    *_, sweep, _, trial = run.store.location.rstrip("/").split("/")
    return f"{sweep}/{trial}"


def _train_with_workers(
    config: Config, run: Run, trial: _Trial, resources: TrialResources, asked_to_stop: Callable[[], bool]
) -> None:
    """A Ray Train run of its own; what its log says of evaluations is passed on while it runs."""
    from distmgcd.on_ray.train.driver import train_on_ray

    def pass_on() -> bool:
        for record in records_of(run.store):
            new = trial.updates < record["update"] < config.learning.num_updates
            if new and value_of(record, trial.sweep.objective) is not None:
                trial.evaluated(record)
        return asked_to_stop()

    def note_failure(event: dict[str, Any]) -> None:
        if not asked_to_stop():  # else it is told that it stops
            trial.failures.append(event["event"].partition(" Starting the workers again")[0])

    if run.store.exists("result.json"):
        return
    try:
        train_on_ray(
            config,
            run,
            num_workers=resources.workers,
            use_gpu=resources.use_gpu,
            cpus_per_worker=resources.threads,
            is_trial=True,
            label=_label(run),
            show=note_failure,
            stop=pass_on,
        )
    except RunFailed as failure:
        raise UserError(failure.reason) from failure


@contextmanager
def _held(store: Store) -> Iterator[None]:
    """The lock of a run, once a process that is being killed has let go of it. Raises UserError if none does."""
    _wait_for(lambda: not lock.is_locked(store), seconds=_PATIENCE_S)
    with lock.locked(store):
        yield


@contextmanager
def _listening(mailbox: RayMailbox) -> Iterator[Callable[[], bool]]:
    """Whether the sweep is asked to stop, looked up now and then by a thread of its own."""
    asked, ended = threading.Event(), threading.Event()

    def look() -> None:
        with suppress(Exception):  # the head of the cluster may be slow to answer now and then
            if mailbox.get(STOP):
                asked.set()

    def keep_looking() -> None:
        while not asked.is_set() and not ended.wait(_LOOK_EVERY_S):
            look()

    look()
    threading.Thread(target=keep_looking, daemon=True, name="asked to stop").start()
    try:
        yield asked.is_set
    finally:
        ended.set()


def _wait_for(condition: Callable[[], bool], *, seconds: float = _CHECKPOINT_PATIENCE_S) -> None:
    """Until it holds, or for so long."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
