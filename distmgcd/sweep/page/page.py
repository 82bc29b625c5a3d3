"""report.html: a sweep in one file that needs no network, in the order of a reader's questions.

jinja2 fills report.html.jinja. The JavaScript library of the Python package plotly draws the pictures: one can zoom,
select, and mark a range of a setting. All 4.8 MB of it are put into the file, so that a report can be mailed, or opened
years later without a network. Its smaller bundles are not in the Python package, and most lack parallel coordinates,
which need WebGL.
"""

import base64
import importlib.util
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import distmgcd
from distmgcd.sweep import ranking
from distmgcd.sweep.axes import is_number, number_text, text_of
from distmgcd.sweep.objective import measured_of, objective_in_words
from distmgcd.sweep.page import figures
from distmgcd.sweep.parameter_axes import parameter_axes, paths_of
from distmgcd.sweep.sweep_results import SweepResults
from distmgcd.sweep.trial import Trial

if TYPE_CHECKING:
    from jinja2 import Template

_HERE = Path(__file__).parent
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")  # in HTML, even escaped


def can_be_written() -> bool:
    """Whether the libraries of the extra `report` are installed."""
    return all(importlib.util.find_spec(name) for name in ("jinja2", "plotly"))


def page(results: SweepResults) -> str:
    """The whole page. Every text that comes from the sweep is escaped. Raises ImportError without the extra."""
    from plotly.offline import get_plotlyjs

    axes = parameter_axes(results)
    cost_figures, on_front = figures.trade(results)
    return _template().render(
        results=results,
        sweep=results.sweep,
        best=results.best,
        objective=objective_in_words(results.sweep.objective, results.trials),
        counts=ranking.counts(results.trials),
        settings=[(path, results.space.get(path, "")) for path in paths_of(results)],
        length=_length(results),
        distances=_distances(results, "swd"),
        frechet=_distances(results, "fd"),
        as_good=_as_good(results),
        reasons=ranking.reasons(results.trials),
        failures=ranking.failures(results.trials),
        sheets={name: base64.b64encode(sheet).decode() for name, sheet in results.sheets.items()},
        over_updates=figures.over_updates(results),
        against_parameters=figures.against_parameters(results, axes),
        together=figures.together(results, axes),
        cost_figures=cost_figures,
        on_front=on_front,
        columns=_columns(results),
        version=distmgcd.__version__,
        plotly_js=get_plotlyjs(),
    )


@cache
def _template() -> "Template":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", value) if type(value) is str else value,
    )
    environment.globals |= {
        "symbols": {state: mark for state, (_, mark) in figures.SYMBOLS.items()},
        "with_spread": ranking.with_spread,
        "number": number_text,
        "text_of": text_of,
    }
    return environment.get_template("report.html.jinja")


def _length(results: SweepResults) -> str:
    """How long best.yaml trains, where trials were shorter."""
    if results.best is None:
        return ""
    num_updates = results.sweep.preset_of(results.best.parameters).learning.num_updates
    if num_updates == results.best.updates:
        return "."
    return f", {number_text(num_updates)} updates; the trial had {number_text(results.best.updates)}."


def _distances(results: SweepResults, family: str) -> list[tuple[str, list[str]]]:
    """Rows of a table, titles first: the distances of the best trial, and those that bound them if its run has them."""
    if results.best is None or not (of_best := measured_of(results.best, family))[0]:
        return []
    result = results.result or {}
    rows: list[tuple[str, Mapping[str, float], Mapping[str, float]]] = [("best trial", *of_best)]
    for key, title in (("untrained", "untrained model"), ("data", "data against itself")):
        if key in result.get(family, {}):
            rows.append((title, result[family][key], result.get(f"{family}_spread", {}).get(key, {})))
    names = sorted(of_best[0], key=lambda name: float(name) if name.isdecimal() else 0.0)
    titles = [f"{name}x{name}" if family == "swd" else name for name in names]
    show = ranking.value_in_words
    return [("", titles)] + [
        (title, [show(values.get(n), spread.get(n), family) for n in names]) for title, values, spread in rows
    ]


def _as_good(results: SweepResults) -> str:
    """How many trials are no worse than the best as far as can be told; empty where that is not known."""
    best, objective = results.best, results.sweep.objective
    spread = ranking.spread_of(best, objective) if best else None
    if best is None or best.objective is None or not spread or len(results.trials) == 1:
        return ""
    most = best.objective + spread
    near = [t.name for t in results.trials if t is not best and (v := ranking.result(t)) is not None and v <= most]
    width = "± is the standard deviation over draws of samples"
    width += ", of a mean over grids a bound on it" if objective == "swd" else ""
    if not near:
        return f"{width}; no other trial is within it of the best."
    names = ", ".join(near[:5]) + (", ..." if len(near) > 5 else "")
    return f"{width}; {len(near)} other trial{'s are' if len(near) > 1 else ' is'} within it of the best ({names})."


def _columns(results: SweepResults) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """(title, CSS class, [(text, what it is sorted by)]) of the table of all trials, best first."""
    trials, objective = results.trials, results.sweep.objective
    sizes = sorted({size for trial in trials for size in trial.swd}, key=lambda s: (len(s), s))
    networks = dict.fromkeys(name for trial in trials for name in trial.fd) if objective != "fd" else ()
    paths = [path for path in paths_of(results) if any(path in trial.parameters for trial in trials)]

    def column(title: str, style: str, show: Any, value: Any) -> tuple[str, str, list[tuple[str, str]]]:
        return title, style, [(show(trial), _sortable(value(trial))) for trial in trials]

    return [
        column("trial", "", lambda t: t.name, lambda t: t.name),
        column("state", "", lambda t: f"{figures.SYMBOLS[t.state][1]} {t.state}", lambda t: t.state),
        column(results.label, "number", lambda t: ranking.with_spread(t, objective), lambda t: t.objective),
        *(_measured_column(trials, "swd", size, f"swd {size}x{size}") for size in sizes),
        *(_measured_column(trials, "fd", name, name) for name in networks),
        column("gradient evaluations", "number", lambda t: _rounded(t.gradient_evaluations or None), _steps),
        column("images/s", "number", lambda t: _rounded(t.images_per_s), lambda t: t.images_per_s),
        column("updates", "number", lambda t: number_text(t.updates), lambda t: t.updates),
        column("seconds", "number", lambda t: _rounded(t.seconds), lambda t: t.seconds),
        *(_parameter_column(trials, path) for path in paths),
        column("reason", "words", lambda t: t.reason, lambda t: t.reason or None),
    ]


def _measured_column(trials: Any, family: str, name: str, title: str) -> tuple[str, str, list[tuple[str, str]]]:
    found = [(values.get(name), spread.get(name)) for values, spread in (measured_of(t, family) for t in trials)]
    return title, "number", [(ranking.value_in_words(v, s, family), _sortable(v)) for v, s in found]


def _parameter_column(trials: Any, path: str) -> tuple[str, str, list[tuple[str, str]]]:
    def cell(trial: Trial) -> tuple[str, str]:
        has = path in trial.parameters
        return (text_of(trial.parameters[path]), _sortable(trial.parameters[path])) if has else ("", "")

    return path, "wrapped", [cell(trial) for trial in trials]


def _steps(trial: Trial) -> int:
    return trial.gradient_evaluations


def _rounded(value: float | None) -> str:
    return "-" if value is None else number_text(float(f"{value:.3g}"))


def _sortable(value: Any) -> str:
    if value is None:
        return ""
    return repr(float(value)) if is_number(value) else text_of(value)
