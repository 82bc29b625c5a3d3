"""One trial of a sweep, as Tune runs it: an ordinary run, each of whose evaluations is reported to Tune."""

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ray import tune

from distmgcd.config import Config
from distmgcd.errors import RunFailed, UserError
from distmgcd.on_ray.cluster.metrics import RayMetrics
from distmgcd.on_ray.train.mailbox import RayMailbox
from distmgcd.runs import checkpoint, lock
from distmgcd.runs.read_log import CheckpointRecord, EvaluationRecord, Event, UpdateRecord, read_log
from distmgcd.runs.run_folder import Run
from distmgcd.runs.store import Store
from distmgcd.sweep.objective import value_of
from distmgcd.sweep.parallel_trials import TrialResources
from distmgcd.sweep.plan import Sweep
from distmgcd.sweep.read_trial import history_of, trial_of
from distmgcd.sweep.trial import State
from distmgcd.training.callbacks import Callback
from distmgcd.training.divergence import Diverged
from distmgcd.training.origin import fork_from
from distmgcd.workers.stop import Stopped

# Reported of a trial that has no objective: worse than any, but finite, for ASHA takes percentiles of it.
WORST = 1e6

STOP = "stop"  # on the sweep's mailbox
STOPPED = "stopped"  # reported of a trial that was saved where it is, to go on another time

_LOOK_EVERY_S = 0.5
_PATIENCE_S = 60.0  # for the process of the trial's last start to be gone
_CHECKPOINT_PATIENCE_S = 60.0  # for a checkpoint to be written


def run_trial(
    tune_config: dict[str, Any], *, sweep: Sweep, location: str, resources: TrialResources, mailbox: str
) -> None:
    """What Tune calls, in a process of its own.

    tune_config["trial"]: {"number": of the trial, "parameters": {dotted path: value}, "kept": its state if it has ended
    before, "reason": of that, "run": its folder, "start": the checkpoint of another trial that it starts from, if
    any}.
    location: the folder of all trials. mailbox: where the sweep posts that it is asked to stop.
    """
    settings = tune_config["trial"]
    run = Run.at(location, settings["run"])
    report = _TuneReport(run, sweep, settings["parameters"])
    if settings["kept"]:
        report.report_again(settings["kept"], settings["reason"])
        return
    try:
        config = sweep.config_of(settings["parameters"])
        with _locked(run.store), _listening(RayMailbox(mailbox)) as asked_to_stop:
            if asked_to_stop():
                raise Stopped(None)
            run.claim(config)
            checkpoint.complete_left_overs(run.store)
            if (start := settings["start"]) and not checkpoint.names(run.store):
                fork_from(run, Run.at(location, start["run"]), start["update"])
            report.report_history()
            train = _train_here if resources.workers == 0 else _train_with_workers
            if not run.store.exists("result.json"):
                train(config, run, report, resources, asked_to_stop)
    except Diverged as event:
        report.report_end("diverged", str(event).partition(" It has done so ")[0])  # a trial does not try again
    except Stopped:
        report.report(report.updates, None, state=STOPPED, done=True)
    except UserError as error:
        report.report_end("failed", str(error))
    else:
        report.report_end("finished")


class _TuneReport(Callback):
    """Reports every evaluation of a trial to Tune, once the checkpoint that goes with it is there.

    For a trial that the scheduler stops here can be resumed, or forked, from there. In the process of the trial:
    called by its loop, or with the records of its log where it trains with workers of its own.
    """

    wait_for_checkpoints = True

    def __init__(self, run: Run, sweep: Sweep, parameters: dict[str, Any]):
        self.store, self.sweep, self.parameters = run.store, sweep, parameters
        self.updates = 0  # at the last report
        self.failures: list[str] = []  # of its workers, since the last report
        self._evaluation: EvaluationRecord | None = None  # that has not been reported

    def on_evaluation(self, record: EvaluationRecord) -> None:
        is_new = self.updates < record["update"] < self.sweep.budget.updates  # the last one is of the final report
        if is_new and value_of(record, self.sweep.objective) is not None:
            self._evaluation = record

    def on_checkpoint(self, record: CheckpointRecord) -> None:
        self._report_up_to(record["update"])

    def on_log(self, record: UpdateRecord) -> None:
        self._report_up_to(record["update"] - 1)  # where its checkpoint could not be written

    def on_event(self, record: Event) -> None:
        if failure := record.get("failure"):
            self.failures.append(failure)

    def _report_up_to(self, update: int) -> None:
        found = self._evaluation
        if found and found["update"] <= update:
            self._evaluation = None
            _wait_for(lambda: self.store.exists(f"{checkpoint.FOLDER}/{checkpoint.name_of(found['update'])}"))
            self.report(found["update"], value_of(found, self.sweep.objective))

    def report_history(self) -> None:
        """What it has been through before its newest checkpoint, for a scheduler that does not remember it.

        Population-based training looks at where trials stand now.
        """
        names = checkpoint.names(self.store)
        newest = checkpoint.update_of(names[-1]) if names else 0
        if self.sweep.scheduler.kind == "pbt":
            self.updates = newest  # the log up to there may be another trial's, and says nothing of this one
            return
        for update, objective in history_of(read_log(self.store), self.sweep.objective):
            if update <= newest and update < self.sweep.budget.updates:
                self.report(update, objective)

    def report(self, update: int, objective: float | None, **more: Any) -> None:
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

    def report_end(self, state: State, reason: str = "") -> None:
        """done keeps a scheduler from having second thoughts about the trial."""
        sweep = self.sweep
        found = trial_of(
            self.store.location, parameters=self.parameters, objective=sweep.objective, state=state, reason=reason
        )
        objective = WORST if state not in ("finished", "pruned") or found.objective is None else found.objective
        evaluation = min(sweep.budget.evaluations, found.updates // sweep.budget.every + (state == "diverged"))
        tune.report(
            {
                "evaluation": evaluation or 1,
                "updates": found.updates,
                "objective": min(WORST, objective),
                **{f"swd/{size}": value for size, value in found.swd.items()},
                **{f"fd/{name}": value for name, value in found.fd.items()},
                "gradient_evaluations": found.gradient_evaluations,
                "images_per_s": found.images_per_s,
                "seconds": found.seconds,
                "run": self.store.location,
                "state": state,
                "reason": reason,
                "failures": self._new_failures(),
                "done": True,
            }
        )

    def report_again(self, state: State, reason: str) -> None:
        """What a trial that has ended before reported: the scheduler and the search are new and have not heard it."""
        for update, objective in history_of(read_log(self.store), self.sweep.objective):
            if update < self.sweep.budget.updates:
                self.report(update, objective, kept=True)
        self.report_end(state, reason)

    def _new_failures(self) -> list[str]:
        new, self.failures = self.failures, []
        return new


def _train_here(
    config: Config, run: Run, report: _TuneReport, resources: TrialResources, asked_to_stop: Callable[[], bool]
) -> None:
    """The loop of debug mode in this process."""
    import torch

    from distmgcd.training import loop
    from distmgcd.workers.collectives import LocalWorker, choose_device
    from distmgcd.workers.control import Control
    from distmgcd.workers.stop import Request

    torch.set_num_threads(resources.threads)
    control = Control(lambda: Request.STOP if asked_to_stop() else Request.CONTINUE)
    loop.train(config, LocalWorker(choose_device(resources.use_gpu), control), run, [RayMetrics(_label(run)), report])


def _train_with_workers(
    config: Config, run: Run, report: _TuneReport, resources: TrialResources, asked_to_stop: Callable[[], bool]
) -> None:
    """A Ray Train run of its own, whose log is followed while it runs."""
    from distmgcd.on_ray.train.driver import train_on_ray

    try:
        train_on_ray(
            config,
            run,
            num_workers=resources.workers,
            use_gpu=resources.use_gpu,
            cpus_per_worker=resources.threads,
            is_trial=True,
            label=_label(run),
            followers=[report],
            stop=asked_to_stop,
        )
    except RunFailed as failure:
        raise UserError(failure.reason) from failure


def _label(run: Run) -> str:
    """SWEEP/TRIAL, for trials of every sweep have the same names."""
    *_, sweep, _, trial = run.store.location.rstrip("/").split("/")
    return f"{sweep}/{trial}"


@contextmanager
def _locked(store: Store) -> Iterator[None]:
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
