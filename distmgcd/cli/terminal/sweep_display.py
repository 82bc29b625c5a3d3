"""What a user sees of a sweep: a line per event, and at the end the best trial and the command that trains it."""

import sys
from collections.abc import Mapping, Sequence
from shlex import quote
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from distmgcd.cli.terminal.run_display import distances_in_words, frechet_in_words, print_text
from distmgcd.runs.store import Store
from distmgcd.sweep import ranking
from distmgcd.sweep.axes import number_text, text_of
from distmgcd.sweep.best_files import BEST_FILE, SHEETS_FILE, moved
from distmgcd.sweep.objective import label_of, objective_in_words
from distmgcd.sweep.page.page import can_be_written
from distmgcd.sweep.parameter_axes import names_of
from distmgcd.sweep.ranking import in_words
from distmgcd.sweep.results_parquet import FILE
from distmgcd.sweep.trial import Trial
from distmgcd.sweep.write_results import REPORT_FILE
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
    lines = [f"{len(trials)} trials: {_counts(trials)}.", *lines_of_failures(trials)]
    if best is None:
        return [*lines, f"No trial has a result, so none is the best; {folder}/results.parquet says why of each."]
    unfinished = [f"No trial came to its end; the best one below was {best.state}."]
    return [
        *lines,
        *([] if best.state == "finished" else unfinished),
        f"best           {best.name}  {parameters_in_words(best.parameters)}",
        *([f"               {frechet_in_words(best.fd, best.fd_spread)}"] if best.fd else []),
        f"               1000 x sliced Wasserstein distance  {distances_in_words(best.swd, best.swd_spread)}",
        f"               {best.gradient_evaluations} gradient evaluations per sample",
        f"results        {folder}/{'report.html, ' if can_be_written() else ''}results.parquet",
        f"its run        {best.run}{_MOVED if moved(best) else ''}",
        f"train it       distmgcd train {quote(f'{folder}/best.yaml')}",
        *how_to_get_the_page(folder),
    ]


def lines_of_failures(trials: list[Trial]) -> list[str]:
    """What trials went on after, counted."""
    failures = [why for trial in trials for why in trial.failures]
    if not failures:
        return []
    count = "One failure that a trial" if len(failures) == 1 else f"{len(failures)} failures that trials"
    return [f"{count} went on after: {failures[0]}{'' if len(failures) == 1 else ' And others; see the report.'}"]


_MOVED = " (its settings changed on the way; above and in best.yaml are the last)"


def _counts(trials: Sequence[Trial]) -> str:
    return ", ".join(f"{number} {state}" for state, number in ranking.counts(trials).items())


def _short(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_short, value))}]"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


_ROW_STYLES = {"diverged": "red", "failed": "magenta", "pruned": "yellow", "stopped": "yellow"}


def table_of(trials: Sequence[Trial], *, objective: str = "swd", num: int = 10) -> Table:
    """The best so many trials, best first, with the settings in which trials differ."""
    ranked = ranking.ranked(trials)
    counted = _counts(ranked)
    title = f"{objective_in_words(objective, ranked)}: the best of {len(ranked)} trials ({counted or 'none yet'})"
    table = Table(title=Text(title), title_justify="left")
    for name in ("trial", "state"):
        table.add_column(name, no_wrap=True)
    for name in (label_of(objective, ranked), "steps", "images/s"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("settings", overflow="fold")
    names = names_of(_differing(ranked))
    for trial in ranked[:num]:
        table.add_row(*(Text(cell) for cell in _cells(trial, names, objective)), style=_ROW_STYLES.get(trial.state))
    return table


def lines_of_files(store: Store) -> list[str]:
    """Where the results lie, those that there are, and how to train with the best."""
    files = {"report": REPORT_FILE, "best settings": BEST_FILE, "their samples": SHEETS_FILE, "all trials": FILE}
    lines = [f"{title:<17}{store.path(file)}" for title, file in files.items() if store.exists(file)]
    trained = (
        [f"{'train with them':<17}distmgcd train {quote(store.path(BEST_FILE))}"] if store.exists(BEST_FILE) else []
    )
    return lines + trained + how_to_get_the_page(store.location)


def how_to_get_the_page(folder: str) -> list[str]:
    """A sentence where report.html could not be written."""
    if can_be_written():
        return []
    return [
        "The page report.html needs plotly, which is not installed: pip install 'distmgcd[report]', then "
        f"`distmgcd report {quote(folder)}` writes it."
    ]


def _differing(trials: Sequence[Trial]) -> list[str]:
    """The parameters in which trials differ; all of them if there is but one trial."""
    paths = dict.fromkeys(path for trial in trials for path in trial.parameters)
    values = {path: {repr(trial.parameters[path]) for trial in trials if path in trial.parameters} for path in paths}
    return [path for path in paths if len(values[path]) > 1 or len(trials) == 1]


def _cells(trial: Trial, names: Mapping[str, str], objective: str) -> list[str]:
    """steps: of a sample, all grids together."""
    speed = "-" if trial.images_per_s is None else number_text(round(trial.images_per_s))
    parameters = ", ".join(
        f"{name} {text_of(trial.parameters[path])}" for path, name in names.items() if path in trial.parameters
    )
    steps = str(trial.gradient_evaluations or "-")
    return [trial.name, trial.state, ranking.with_spread(trial, objective), steps, speed, parameters]
