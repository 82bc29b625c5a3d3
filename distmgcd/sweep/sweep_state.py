"""What is known of a sweep under way: told by the search, kept in the sweep's folder, shown to the user."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from distmgcd.config import Config
from distmgcd.errors import UserError
from distmgcd.runs.run_folder import Run
from distmgcd.runs.store import Store
from distmgcd.sweep.objective import label_of
from distmgcd.sweep.plan import Sweep, flat_of, name_of
from distmgcd.sweep.ranking import as_stopped, in_words
from distmgcd.sweep.read_trial import trial_of
from distmgcd.sweep.results import write_results
from distmgcd.sweep.space import parameters_of, words
from distmgcd.sweep.time_left import seconds_left
from distmgcd.sweep.trial import State, Trial
from distmgcd.sweep.trial_files import (
    ENDED,
    TRIALS,
    TrialState,
    location_of,
    lost_trials,
    read_trial_states,
    write_trial_state,
)

Show = Callable[[dict[str, Any]], None]


class SweepState:
    def __init__(self, store: Store, sweep: Sweep, *, concurrent: int = 1, show: Show | None = None):
        self._store, self._sweep, self._concurrent = store, sweep, concurrent
        self._show = show or (lambda _: None)
        self._trial_states = {trial_state.name: trial_state for trial_state in read_trial_states(store)}
        self._lost = {name: self._of_lost(name, run) for name, run in lost_trials(store).items()}
        self._trial_states |= self._lost
        self._ended = {
            name: self._trial(trial_state)
            for name, trial_state in self._trial_states.items()
            if trial_state.state in ENDED
        }
        self._began_at: dict[str, float] = {}
        self._begun_before = {trial_state.name for trial_state in self.begun()}
        self._took: list[float] = []  # seconds of every trial that ended since, and had not begun before

    def kept(self) -> list[TrialState]:
        """Trials that had ended before this start of the sweep."""
        return [trial_state for trial_state in self._trial_states.values() if trial_state.state in ENDED]

    def begun(self) -> list[TrialState]:
        """Trials that had begun before this start of the sweep, and not ended."""
        return [trial_state for trial_state in self._trial_states.values() if trial_state.state not in ENDED]

    def show_kept(self) -> None:
        if self._trial_states:
            self._show({"event": "kept", "num_kept": len(self.kept()), "num_begun": len(self.begun())})
        for name in self._lost:
            text = (
                f"The note of {name}, {self._store.path(f'{TRIALS}/{name}/trial.json')}, is lost or damaged; the trial "
                "goes on from its newest checkpoint."
            )
            self._show({"event": "warning", "text": text})

    def all_ended(self) -> bool:
        """Whether there is nothing left to do."""
        return len(self.kept()) == len(self._trial_states) >= self._sweep.num_trials

    def trials(self) -> list[Trial]:
        """Every trial that has begun, by name."""
        return [
            self._ended.get(name) or self._trial(trial_state)
            for name, trial_state in sorted(self._trial_states.items())
        ]

    def best(self) -> Trial | None:
        """Of those that have come to their end."""
        finished = [
            trial for trial in self._ended.values() if trial.state == "finished" and trial.objective is not None
        ]
        return min(finished, key=lambda trial: trial.objective, default=None)

    def started(self, number: int, parameters: dict[str, Any], draws: dict[str, Any]) -> None:
        """A trial starts, or goes on: after a pause, or after a failure."""
        name = name_of(number)
        if name in self._ended:
            return
        if name not in self._began_at:
            self._began_at[name] = time.monotonic()
            old = self._trial_states.get(name, TrialState(name=name, state="running"))
            self._write(replace(old, state="running", reason="", parameters=parameters, draws=draws))
            self._show({"trial": name, "event": "started", "parameters": parameters})

    def failed(self, number: int, why: str) -> None:
        """A process of a trial was lost, and the trial goes on from its newest checkpoint."""
        trial_state = self._trial_states[name_of(number)]
        self._write(replace(trial_state, failures=[*trial_state.failures, why]))
        self._show({"trial": trial_state.name, "event": "again", "why": why})

    def stopping(self, num_running: int) -> None:
        self._show({"event": "stopping", "num_running": num_running})

    def evaluated(self, number: int, metrics: dict[str, Any]) -> None:
        if (name := name_of(number)) not in self._ended:
            self._show({"trial": name, "event": "evaluated", **metrics})

    def moved(self, number: int, *, parameters: dict[str, Any], run: str, start: dict[str, Any]) -> None:
        """Population-based training: it continues another trial's checkpoint with new parameters, in another run."""
        name = name_of(number)
        self._write(replace(self._trial_states[name], parameters=parameters, run=run, start=start))
        self._show({"trial": name, "event": "moved", "start": start, "parameters": parameters})

    def ended(self, number: int, state: State, reason: str) -> None:
        """A trial has ended; the results of the sweep are written anew."""
        if (name := name_of(number)) in self._ended:
            return
        trial_state = replace(self._trial_states[name], state=state, reason=reason)
        self._write(trial_state)
        trial = self._trial(trial_state)
        if state in ENDED:
            self._ended[name] = trial
        if state in ENDED and name not in self._begun_before:
            self._took.append(time.monotonic() - self._began_at.get(name, time.monotonic()))
        self._show({"trial": name, "event": state, "of": trial, "best": self.best(), "left_s": self._seconds_left()})
        try:
            self.write_results()
        except Exception as error:  # whatever it is, it must not end a night's search; the last one is not caught
            self._show({"event": "warning", "text": f"The results could not be written yet ({error})."})

    def write_results(self, *, stopped: bool = False) -> None:
        """stopped: the sweep has left, so no trial runs."""
        trials = as_stopped(self.trials()) if stopped else self.trials()
        write_results(self._store, ForResults.of(self._sweep), trials)

    def count(self, state: State) -> int:
        return sum(trial_state.state == state for trial_state in self._trial_states.values())

    def _seconds_left(self) -> float | None:
        now, trial_states = time.monotonic(), self._trial_states.values()
        running = [trial_state.name for trial_state in trial_states if trial_state.state == "running"]
        num_begun = sum(trial_state.state != "waiting" for trial_state in trial_states)
        return seconds_left(
            self._took,
            [now - self._began_at.get(name, now) for name in running],
            num_waiting=max(0, self._sweep.num_trials - num_begun),
            concurrent=self._concurrent,
        )

    def _trial(self, trial_state: TrialState) -> Trial:
        found = trial_of(
            location_of(self._store, trial_state),
            parameters=trial_state.parameters,
            objective=self._sweep.objective,
            state=trial_state.state,
            reason=trial_state.reason,
        )
        return replace(found, name=trial_state.name, failures=tuple(trial_state.failures))

    def _of_lost(self, name: str, run: str) -> TrialState:
        """What the lost trial.json of a trial must have held: its parameters stand in the config of its run."""
        try:
            config = Run.open(self._store.path(f"{TRIALS}/{run}")).config()
            parameters = parameters_of(self._sweep.space, flat_of(config))
        except UserError:  # the config is damaged, too: the run cannot go on, and says so
            parameters = {}
        return TrialState(name=name, state="running", parameters=parameters, run=run)

    def _write(self, trial_state: TrialState) -> None:
        self._trial_states[trial_state.name] = trial_state
        write_trial_state(self._store, trial_state)


class SweepStopped(Exception):
    """A sweep that left on request: its trials were saved where they were."""

    def __init__(self, num_ended: int, num_begun: int):
        saved = f"{num_begun} under way {'was' if num_begun == 1 else 'were'} saved, and" if num_begun else "and"
        super().__init__(
            f"Stopped. {num_ended} trial{' has' if num_ended == 1 else 's have'} ended, {saved} the same command with "
            "--resume goes on."
        )


@dataclass(frozen=True)
class ForResults:
    """What results want to know of a sweep."""

    sweep: Sweep
    name: str
    base: str
    objective: str
    space: dict[str, str]
    num_updates: int

    @staticmethod
    def of(sweep: Sweep) -> "ForResults":
        return ForResults(sweep, sweep.name, sweep.base_name, sweep.objective, words(sweep.space), sweep.budget.updates)

    def config_of(self, trial: Trial) -> Config:
        """Raises UserError."""
        return self.sweep.config_of(trial.parameters)

    def preset_of(self, trial: Trial) -> Config:
        """Raises UserError."""
        return self.sweep.preset_of(trial.parameters)


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """Of those that have come to their end: what a trial shows on its way is no match for what others end with."""
    finished = [trial for trial in trials if trial.state == "finished" and trial.objective is not None]
    return min(finished, key=lambda trial: trial.objective, default=None)


def reason_of_pruning(sweep: Sweep, trials: Sequence[Trial], metrics: dict[str, Any]) -> str:
    """Why the scheduler stopped a trial, as far as can be seen from outside."""
    best, objective = best_of(trials), sweep.objective
    beside = f"; the best so far ended at {in_words(best.objective, objective)}" if best else ""
    return (
        f"{sweep.scheduler.kind} stopped it after {metrics['updates']} of {sweep.budget.updates} updates, at "
        f"{label_of(objective, trials)} = {in_words(metrics['objective'], objective)}{beside}."
    )
