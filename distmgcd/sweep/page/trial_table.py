"""All trials in one table of the report, whose titles sort it."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from distmgcd.sweep import ranking
from distmgcd.sweep.axes import is_number, number_text, text_of
from distmgcd.sweep.page import charts
from distmgcd.sweep.page.markup import Markup, element, join
from distmgcd.sweep.parameter_axes import paths_of
from distmgcd.sweep.sweep_results import SweepResults
from distmgcd.sweep.trial import Trial

_PARAMETERS_IN_TIP = 8


class Column(NamedTuple):
    title: str
    show: Callable[[Trial], object]  # a text or markup
    value: Callable[[Trial], Any]  # what it is sorted by; None comes last
    style: str | None = "number"


def table_of_trials(results: SweepResults) -> Markup:
    """Best first, as results has them; trials that diverged or failed stand among them, below."""
    columns = _columns(results)
    titles = (
        element("th", element("button", column.title, type="button"), scope="col", class_=column.style)
        for column in columns
    )
    rows = (_row(rank, trial, columns, _tip(results, trial)) for rank, trial in enumerate(results.trials))
    table = element("table", element("thead", element("tr", *titles)), element("tbody", *rows))
    return element("div", table, class_="trials", tabindex=0)


def _row(rank: int, trial: Trial, columns: Sequence[Column], tip: str) -> Markup:
    first, *others = columns
    cells = [element("th", first.show(trial), scope="row", data_v=trial.name)]
    cells += [element("td", c.show(trial), class_=c.style, data_v=_sortable(c.value(trial))) for c in others]
    return element("tr", *cells, data_t=rank, data_tip=tip)


def _columns(results: SweepResults) -> list[Column]:
    objective = results.sweep.objective
    sizes = sorted({size for trial in results.trials for size in trial.swd}, key=lambda s: (len(s), s))
    names = dict.fromkeys(name for trial in results.trials for name in trial.fd)
    return [
        Column("trial", lambda t: t.name, lambda t: t.name, None),
        Column("state", _state, lambda t: t.state, None),
        Column(results.label, lambda t: ranking.with_spread(t, objective), lambda t: t.objective, "number"),
        *(_of_grid(size) for size in sizes),
        *(_of_network(name) for name in names if objective != "fd"),
        Column("gradient evaluations", lambda t: t.gradient_evaluations or "-", lambda t: t.gradient_evaluations),
        Column("images/s", lambda t: _rounded(t.images_per_s), lambda t: t.images_per_s),
        Column("updates", lambda t: number_text(t.updates), lambda t: t.updates),
        Column("seconds", lambda t: _rounded(t.seconds), lambda t: t.seconds),
        *(
            _of_parameter(path)
            for path in paths_of(results)
            if any(path in trial.parameters for trial in results.trials)
        ),
        Column("reason", lambda t: t.reason, lambda t: t.reason or None, "words"),
    ]


def _of_grid(size: str) -> Column:
    def show(trial: Trial) -> str:
        return ranking.distance_in_words(trial.swd.get(size), trial.swd_spread.get(size))

    return Column(f"swd {size}x{size}", show, lambda trial: trial.swd.get(size))


def _of_network(name: str) -> Column:
    def show(trial: Trial) -> str:
        return ranking.value_in_words(trial.fd.get(name), trial.fd_spread.get(name), "fd")

    return Column(name, show, lambda trial: trial.fd.get(name))


def _of_parameter(path: str) -> Column:
    def show(trial: Trial) -> str:
        return text_of(trial.parameters[path]) if path in trial.parameters else ""

    return Column(path, show, lambda trial: trial.parameters.get(path, ""), "wrapped")


def _state(trial: Trial) -> Markup:
    return join(charts.symbol(trial.state), f" {trial.state}")


def _rounded(value: float | None) -> str:
    return "-" if value is None else number_text(float(f"{value:.3g}"))


def _sortable(value: Any) -> str:
    if value is None:
        return ""
    return repr(float(value)) if is_number(value) else text_of(value)


def _tip(results: SweepResults, trial: Trial) -> str:
    parameters = [f"{path} = {text_of(value)}" for path, value in list(trial.parameters.items())[:_PARAMETERS_IN_TIP]]
    more = len(trial.parameters) - len(parameters)
    return "\n".join(
        [
            f"{trial.name}: {trial.state}",
            f"{results.label} = {ranking.with_spread(trial, results.sweep.objective)}",
            *parameters,
            *([f"and {more} more"] if more > 0 else []),
        ]
    )
