"""The best trials as a table on the terminal, for the end of `distmgcd tune` and `distmgcd report`."""

from collections.abc import Mapping, Sequence
from shlex import quote

from rich.table import Table
from rich.text import Text

from distmgcd.runs.store import Store
from distmgcd.sweep import ranking
from distmgcd.sweep.axes import number_text, text_of
from distmgcd.sweep.best import BEST_FILE, SHEETS_FILE
from distmgcd.sweep.objective import label_of, objective_in_words
from distmgcd.sweep.parameter_axes import names_of
from distmgcd.sweep.results_parquet import FILE
from distmgcd.sweep.trial import Trial

_STYLES = {"diverged": "red", "failed": "magenta", "pruned": "yellow", "stopped": "yellow"}


def table_of(trials: Sequence[Trial], *, objective: str = "swd", num: int = 10) -> Table:
    """The best so many trials, best first, with the settings in which trials differ."""
    ranked = ranking.ranked(trials)
    counted = ", ".join(f"{number} {state}" for state, number in ranking.counts(ranked).items())
    title = f"{objective_in_words(objective, ranked)}: the best of {len(ranked)} trials ({counted or 'none yet'})"
    table = Table(title=Text(title), title_justify="left")
    for name in ("trial", "state"):
        table.add_column(name, no_wrap=True)
    for name in (label_of(objective, ranked), "steps", "images/s"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("settings", overflow="fold")
    names = names_of(_differing(ranked))
    for trial in ranked[:num]:
        table.add_row(*(Text(cell) for cell in _cells(trial, names, objective)), style=_STYLES.get(trial.state))
    return table


def lines_of_files(store: Store) -> list[str]:
    """Where the results lie, those that there are, and how to train with the best."""
    files = {"report": "report.html", "best settings": BEST_FILE, "their samples": SHEETS_FILE, "all trials": FILE}
    lines = [f"{title:<17}{store.path(file)}" for title, file in files.items() if store.exists(file)]
    trained = (
        [f"{'train with them':<17}distmgcd train {quote(store.path(BEST_FILE))}"] if store.exists(BEST_FILE) else []
    )
    return lines + trained


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
