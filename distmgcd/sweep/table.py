"""The best trials as a table on the terminal, for the end of `distmgcd tune` and `distmgcd report`."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from distmgcd.sweep import ranking
from distmgcd.sweep.axes import number_text, text_of
from distmgcd.sweep.best import BEST_FILE, SHEETS_FILE
from distmgcd.sweep.parquet import FILE
from distmgcd.sweep.trial import Trial
from distmgcd.train.store import Store

_STYLES = {"diverged": "red", "failed": "magenta", "pruned": "yellow"}


def table_of(trials: Sequence[Trial], *, objective: str = "swd", num: int = 10) -> Table:
    """The best so many trials, best first, and how the others ended below them."""
    ranked = ranking.ranked(trials)
    paths = list(dict.fromkeys(path for trial in ranked for path in trial.knobs))
    counted = ", ".join(f"{number} {state}" for state, number in ranking.counts(ranked).items())
    title = f"{ranking.objective_in_words(objective)}, the best of {len(ranked)} trials ({counted or 'none yet'})"
    table = Table(title=Text(title), title_justify="left")
    for name in ("trial", "state"):
        table.add_column(name)
    for name in (ranking.label_of(objective), "gradient evaluations", "images/s"):
        table.add_column(name, justify="right")
    for path in paths:
        table.add_column(Text(path), overflow="fold")
    for trial in ranked[:num]:
        table.add_row(*(Text(cell) for cell in _cells(trial, paths, objective)), style=_STYLES.get(trial.state))
    return table


def lines_of_files(store: Store) -> list[str]:
    """Where the results lie, those that there are."""
    files = {
        "report": "report.html",
        "best settings": BEST_FILE,
        "their samples": SHEETS_FILE,
        "all trials": FILE,
    }
    lines = [f"{title:<15}{store.path(file)}" for title, file in files.items() if store.exists(file)]
    trains = [f"{'train with them':<15} distmgcd train {store.path(BEST_FILE)}"] if store.exists(BEST_FILE) else []
    return lines + trains


def _cells(trial: Trial, paths: Sequence[str], objective: str) -> list[str]:
    speed = "-" if trial.images_per_s is None else number_text(round(trial.images_per_s))
    costs = [str(trial.gradient_evaluations or "-"), speed]
    knobs = [text_of(trial.knobs[path]) if path in trial.knobs else "-" for path in paths]
    return [trial.name, trial.state, ranking.with_spread(trial, objective), *costs, *knobs]
