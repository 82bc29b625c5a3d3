"""Writes what Tune says of its trials into the sweep's folder."""

import re
from pathlib import Path
from typing import Any

from ray import cloudpickle, tune
from ray.exceptions import RayActorError
from ray.tune.experiment import Trial as RayTrial

from distmgcd.on_ray.jobs.job_note import note_update
from distmgcd.on_ray.tune.searcher import TrialSource
from distmgcd.on_ray.tune.trial_process import STOPPED
from distmgcd.sweep.plan import Sweep
from distmgcd.sweep.sweep_state import SweepState, SweepStopped, reason_of_pruning


class TuneCallback(tune.Callback):
    """Tune calls it in the thread of fit(); stop, running and stopped are for another one."""

    def __init__(self, sweep: Sweep, sweep_state: SweepState, search: TrialSource):
        self.sweep_state, self._sweep, self._search = sweep_state, sweep, search
        self._started: dict[int, RayTrial] = {}  # by number

    def on_trial_start(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **_: Any) -> None:
        number = _number(trial)
        self._started[number] = trial
        self.sweep_state.started(number, trial.config["trial"]["parameters"], self._search.draws.get(number, {}))

    def on_trial_result(
        self, iteration: int, trials: list[RayTrial], trial: RayTrial, result: dict[str, Any], **_: Any
    ) -> None:
        for why in result["failures"]:  # of its workers
            self.sweep_state.failed(_number(trial), why)
        if result["state"] == "running":
            self.sweep_state.evaluated(_number(trial), {key: result[key] for key in ("updates", "objective")})

    def on_trial_recover(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **_: Any) -> None:
        self.sweep_state.failed(_number(trial), _why(trial))

    def on_trial_complete(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **_: Any) -> None:
        result = trial.last_result
        state, reason = result["state"], result["reason"]
        if state == STOPPED:
            return
        if state == "running":  # it had more to say: the scheduler stopped it
            state, reason = "pruned", reason_of_pruning(self._sweep, self.sweep_state.trials(), result)
        self.sweep_state.ended(_number(trial), state, reason)
        self._note()

    def on_trial_error(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **_: Any) -> None:
        self.sweep_state.ended(
            _number(trial), "failed", f"It has failed {trial.num_failures} times, the last time so: {_why(trial)}"
        )
        self._note()

    def _note(self) -> None:
        note_update(f"{self.sweep_state.num_ended()}/{self._sweep.num_trials} trials")

    def stop(self) -> None:
        """No trial starts from now on."""
        self._search.stop()
        self.sweep_state.stopping(len(self.running()))

    def running(self) -> list[int]:
        """The numbers of the trials that have a process."""
        return [number for number, trial in list(self._started.items()) if trial.status == RayTrial.RUNNING]

    def stopped(self) -> SweepStopped:
        return SweepStopped(len(self.sweep_state.kept()), len(self.sweep_state.begun()))

    def __getstate__(self) -> dict[str, Any]:
        return {}


def _number(trial: RayTrial) -> int:
    return trial.config["trial"]["number"]


def _why(trial: RayTrial) -> str:
    """Why a trial's process was lost, in a sentence."""
    error = _error_of(trial)
    text = str(error) if error is not None else "Ray does not say why"
    if isinstance(error, RayActorError):
        pid = re.search(r"\bpid: (\d+)", text)
        return f"Its process {f'{pid[1]} ' if pid else ''}died."
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f"Its process failed: {lines[-1][:200].rstrip('.')}."


def _error_of(trial: RayTrial) -> Exception | None:
    """As Tune has just written it on this machine; trial.get_pickled_error() looks where it is copied to later."""
    try:
        return cloudpickle.loads(Path(trial.pickled_error_file or "").read_bytes())
    except Exception:  # none was written, or it is of a class that is not known here
        return None
