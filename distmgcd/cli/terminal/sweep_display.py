"""What a user sees of a sweep: a line an event, and at the end the best trial and the command that trains it."""

import sys
from collections.abc import Mapping
from shlex import quote
from typing import Any

from rich.console import Console

from distmgcd.cli.terminal.run_display import distances_in_words, frechet_in_words, print_text
from distmgcd.sweep.best import moved
from distmgcd.sweep.ranking import in_words
from distmgcd.sweep.trial import Trial
from distmgcd.terminal import time_in_words

_STYLES = {"finished": "bold", "failed": "red"} | dict.fromkeys(("diverged", "again", "warning", "stopping"), "yellow")


class SweepDisplay:
    """Called with every event of a sweep."""

    def __init__(self, num_trials: int, console: Console | None = None, *, objective: str = "swd"):
        self._num_trials, self._objective = num_trials, objective
        self._num_ended = 0
        self._console = console or Console(file=sys.stdout, highlight=False)

    def __call__(self, event: dict[str, Any]) -> None:
        what = event["event"]
        if what == "evaluated":
            return  # a sweep of many trials would be a wall of numbers; `distmgcd runs` shows where each stands
        if what == "kept":
            self._num_ended = event["num_kept"]
        if "of" in event:
            self._num_ended += 1
        print_text(self._console, self._line(event), style=_STYLES.get(what, ""))

    def _line(self, event: dict[str, Any]) -> str:
        what = event["event"]
        if what == "kept":
            return f"Trials kept that have ended before: {event['num_kept']}; that go on: {event['num_begun']}."
        if what in ("warning", "doing"):
            return event["text"]
        if what == "started":
            return f"{event['trial']} starts  {parameters_in_words(event['parameters'])}"
        if what == "again":
            return f"{event['trial']} goes on from its newest checkpoint: {event['why']}"
        if what == "stopping":
            saved = f"{event['num_running']} trials save where they are" if event["num_running"] else "no trial runs"
            return f"Stopping: {saved}; a second signal ends the sweep at once."
        if what == "moved":
            start, words = event["start"], parameters_in_words(event["parameters"])
            return f"{event['trial']} goes on from {start['run']}, update {start['update']}, with  {words}"
        count = f"{self._num_ended}/{self._num_trials}"
        return line_of_end(event["of"], event["best"], event["left_s"], count, self._objective)


def line_of_end(trial: Trial, best: Trial | None, left_s: float | None, count: str, objective: str) -> str:
    """A trial's end in one line: its state and objective, the best so far, how many have ended and the time left."""
    value = f" {in_words(trial.objective, objective)}" if trial.objective is not None else ""
    reason = f" ({trial.reason})" if trial.reason and trial.state in ("diverged", "failed") else ""
    beside = f", best {in_words(best.objective, objective)} ({best.name})" if best else ""
    time_left = f", about {time_in_words(left_s)} left" if left_s else ""
    after = f" after {trial.updates} updates" if trial.state != "finished" else ""
    return f"{trial.name} {trial.state}{after}{value}{reason}   {count} ended{beside}{time_left}"


def parameters_in_words(parameters: Mapping[str, Any]) -> str:
    return "  ".join(f"{path.rpartition('.')[2]}={_short(value)}" for path, value in parameters.items())


def lines_of_result(trials: list[Trial], best: Trial | None, folder: str) -> list[str]:
    """What is said at the end of a sweep."""
    counts = {state: sum(trial.state == state for trial in trials) for state in _STATES}
    said = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    lines = [f"{len(trials)} trials: {said}.", *lines_of_failures(trials)]
    if best is None:
        return [*lines, f"No trial came to its end, so none is the best; {folder}/results.parquet says why of each."]
    return [
        *lines,
        f"best           {best.name}  {parameters_in_words(best.parameters)}",
        *([f"               {frechet_in_words(best.fd, best.fd_spread)}"] if best.fd else []),
        f"               1000 x sliced Wasserstein distance  {distances_in_words(best.swd, best.swd_spread)}",
        f"               {best.gradient_evaluations} gradient evaluations per sample",
        f"results        {folder}/report.html, results.parquet",
        f"its run        {best.run}{_MOVED if moved(best) else ''}",
        f"train it       distmgcd train {quote(f'{folder}/best.yaml')}",
    ]


def lines_of_failures(trials: list[Trial]) -> list[str]:
    """What trials went on after, counted."""
    failures = [why for trial in trials for why in trial.failures]
    if not failures:
        return []
    count = "One failure that a trial" if len(failures) == 1 else f"{len(failures)} failures that trials"
    return [f"{count} went on after: {failures[0]}{'' if len(failures) == 1 else ' And others; see the report.'}"]


_MOVED = " (its settings changed on the way; above and in best.yaml are the last)"
_STATES = ("finished", "pruned", "diverged", "failed", "running", "waiting")


def _short(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_short, value))}]"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
