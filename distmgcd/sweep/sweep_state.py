"""A sweep under way: what the search says of its trials is written to their folders and shown to the user."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from distmgcd.runs.store import Store
from distmgcd.sweep import ranking
from distmgcd.sweep.objective import label_of
from distmgcd.sweep.plan import Sweep, name_of
from distmgcd.sweep.ranking import in_words
from distmgcd.sweep.read_trial import as_stopped, read_trial
from distmgcd.sweep.trial import ENDED, State, Trial, TrialState
from distmgcd.sweep.trial_files import TRIALS, read_trial_states, write_trial_state
from distmgcd.sweep.write_results import write_results

Show = Callable[[dict[str, Any]], None]


class SweepState:
    def __init__(self, store: Store, sweep: Sweep, *, concurrent: int = 1, show: Show | None = None):
        self._store, self._sweep, self._concurrent = store, sweep, concurrent
        self._show = show or (lambda _: None)
        self._states = {trial.name: trial for trial in read_trial_states(store, sweep.space)}
        self._ended = {trial.name: read_trial(store, sweep, trial) for trial in self.kept()}  # which change no more
        self._began_at: dict[str, float] = {}
        self._begun_before = {trial.name for trial in self.begun()}
        self._took: list[float] = []  # seconds of every trial that ended since, and had not begun before

    def kept(self) -> list[TrialState]:
        """Trials that had ended before this start of the sweep."""
        return [trial for trial in self._states.values() if trial.state in ENDED]

    def begun(self) -> list[TrialState]:
        """Trials that had begun before this start of the sweep, and not ended."""
        return [trial for trial in self._states.values() if trial.state not in ENDED]

    def show_kept(self) -> None:
        if self._states:
            self._show({"event": "kept", "num_kept": len(self.kept()), "num_begun": len(self.begun())})
        for name in (name for name, trial in self._states.items() if trial.is_lost):
            file = self._store.path(f"{TRIALS}/{name}/trial.json")
            text = f"The file {file} is lost or damaged; {name} goes on from its newest checkpoint."
            self._show({"event": "warning", "text": text})

    def all_ended(self) -> bool:
        """Whether there is nothing left to do."""
        return len(self.kept()) == len(self._states) >= self._sweep.num_trials

    def num_ended(self) -> int:
        """How many trials have come to an end of any kind, failed ones included."""
        return sum(trial.state not in ("waiting", "running") for trial in self._states.values())

    def trials(self) -> list[Trial]:
        """Every trial that has begun, by name."""
        return [
            self._ended.get(name) or read_trial(self._store, self._sweep, trial)
            for name, trial in sorted(self._states.items())
        ]

    def started(self, number: int, parameters: dict[str, Any], draws: dict[str, Any]) -> None:
        """A trial starts, or goes on: after a pause, or after a failure."""
        name = name_of(number)
        if name in self._ended or name in self._began_at:
            return
        self._began_at[name] = time.monotonic()
        old = self._states.get(name, TrialState(name=name, state="running"))
        self._write(replace(old, state="running", reason="", parameters=parameters, draws=draws, is_lost=False))
        self._show({"trial": name, "event": "started", "parameters": parameters})

    def failed(self, number: int, why: str) -> None:
        """A process of a trial was lost, and the trial goes on from its newest checkpoint."""
        trial = self._states[name_of(number)]
        self._write(replace(trial, failures=[*trial.failures, why]))
        self._show({"trial": trial.name, "event": "again", "why": why})

    def stopping(self, num_running: int) -> None:
        self._show({"event": "stopping", "num_running": num_running})

    def evaluated(self, number: int, metrics: dict[str, Any]) -> None:
        if (name := name_of(number)) not in self._ended:
            self._show({"trial": name, "event": "evaluated", **metrics})

    def moved(self, number: int, *, parameters: dict[str, Any], run: str, start: dict[str, Any]) -> None:
        """Population-based training: it continues another trial's checkpoint with new parameters, in another run."""
        name = name_of(number)
        self._write(replace(self._states[name], parameters=parameters, run=run, start=start))
        self._show({"trial": name, "event": "moved", "start": start, "parameters": parameters})

    def ended(self, number: int, state: State, reason: str) -> None:
        """A trial has ended; the results of the sweep are written anew."""
        if (name := name_of(number)) in self._ended:
            return
        self._write(replace(self._states[name], state=state, reason=reason))
        trial = read_trial(self._store, self._sweep, self._states[name])
        if state in ENDED:
            self._ended[name] = trial
        if state in ENDED and name not in self._begun_before:
            self._took.append(time.monotonic() - self._began_at.get(name, time.monotonic()))
        best = ranking.best(self.trials())
        self._show({"trial": name, "event": state, "of": trial, "best": best, "left_s": self._seconds_left()})
        try:
            self.write_results()
        except Exception as error:  # whatever it is, it must not end a night's search; the last one is not caught
            self._show({"event": "warning", "text": f"The results could not be written yet ({error})."})

    def write_results(self, *, stopped: bool = False) -> None:
        """stopped: the sweep has left, so no trial runs. Raises OSError."""
        write_results(self._store, self._sweep, as_stopped(self.trials()) if stopped else self.trials())

    def _seconds_left(self) -> float | None:
        now, states = time.monotonic(), [trial.state for trial in self._states.values()]
        running = [trial.name for trial in self._states.values() if trial.state == "running"]
        return seconds_left(
            self._took,
            [now - self._began_at.get(name, now) for name in running],
            num_waiting=max(0, self._sweep.num_trials - sum(state != "waiting" for state in states)),
            concurrent=self._concurrent,
        )

    def _write(self, trial: TrialState) -> None:
        self._states[trial.name] = trial
        write_trial_state(self._store, trial)


class SweepStopped(Exception):
    """A sweep that left on request: its trials were saved where they were."""

    def __init__(self, num_ended: int, num_begun: int):
        saved = f"{num_begun} under way {'was' if num_begun == 1 else 'were'} saved, and" if num_begun else "and"
        super().__init__(
            f"Stopped. {num_ended} trial{' has' if num_ended == 1 else 's have'} ended, {saved} the same command with "
            "--resume goes on."
        )


def seconds_left(took: Sequence[float], running: Sequence[float], *, num_waiting: int, concurrent: int) -> float | None:
    """How long the rest of a sweep takes, at the mean pace of trials that have ended, pruned ones included.

    took: seconds of each of them; running: seconds since each running trial began; num_waiting: trials that have not
    begun. Trials share `concurrent` places, so the rest takes as long as its mean place, and as its longest trial.
    None where no trial has ended.
    """
    if not took:
        return None
    mean = statistics.mean(took)
    left = [max(0.0, mean - seconds) for seconds in running] + [mean] * num_waiting
    return max(sum(left) / concurrent, *left) if left else 0.0


def reason_of_pruning(sweep: Sweep, trials: Sequence[Trial], metrics: dict[str, Any]) -> str:
    """Why the scheduler stopped a trial, as far as can be seen from outside."""
    best, objective = ranking.best(trials), sweep.objective
    beside = ""
    if best and best.state == "finished":
        beside = f"; the best so far ended at {in_words(best.objective, objective)}"
    return (
        f"{sweep.scheduler.kind} stopped it after {metrics['updates']} of {sweep.budget.updates} updates, at "
        f"{label_of(objective, trials)} = {in_words(metrics['objective'], objective)}{beside}."
    )
