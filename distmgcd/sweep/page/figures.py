"""The pictures of a report as figures for plotly: plain dicts, with data in the order of results.trials.

A colour is the name of a CSS variable, such as "--finished", which the page's script looks up, so that pictures are
light or dark as the page is. customdata is the rank of a trial: by it the script finds a trial in every picture.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from distmgcd.runs.retention import score
from distmgcd.sweep import ranking
from distmgcd.sweep.axes import Axis, make_axis, spans_decades, text_of
from distmgcd.sweep.objective import factor_of, family_of
from distmgcd.sweep.parameter_axes import ParameterAxis, objective_axis, objective_of
from distmgcd.sweep.sweep_results import SweepResults
from distmgcd.sweep.trial import Trial

Figure = dict[str, Any]

# A shape and a colour for each state, so that states are told apart without colour.
SYMBOLS = {
    "finished": ("circle", "●"),
    "pruned": ("circle-open", "○"),
    "running": ("diamond-open", "◇"),
    "stopped": ("square-open", "□"),
    "waiting": ("line-ew-open", "–"),
    "diverged": ("x-thin-open", "✕"),
    "failed": ("triangle-up-open", "△"),
}
COLORS = {"stopped": "--running", "waiting": "--running"} | {
    state: f"--{state}" for state in ("finished", "pruned", "running", "diverged", "failed")
}
_BEST_TO_WORST = [[0.0, "--s0"], [0.5, "--s4"], [1.0, "--s8"]]
_ABSENT = "none"  # the place on an axis of trials that do not have this parameter
_PARAMETERS_IN_TIP = 8


def over_updates(results: SweepResults) -> Figure | None:
    """A line per trial; the line of one without result rises to where it says why. None if no trial has begun."""
    ways = {rank: _way(trial, results) for rank, trial in enumerate(results.trials) if trial.state != "waiting"}
    if not ways:
        return None
    level = level_of_data(results)
    values = [*(y for way in ways.values() for _, y in way), *([] if level is None else [level])]
    y = make_axis(values, is_log=spans_decades(values), slots_last=True)
    lines = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "x": [updates for updates, _ in way],
            "y": [_at(y, value) for _, value in way],
            "customdata": [rank] * len(way),
            "text": [_tip(results, results.trials[rank])] * len(way),
            "hoverinfo": "text",
            "line": {"color": _shade(results, rank), "width": 3 if rank == 0 else 1.5},
            "marker": _marker([results.trials[rank].state] * len(way)) | {"size": [*[3] * (len(way) - 1), 9]},
        }
        for rank, way in reversed(ways.items())  # the best on top
    ]
    layout = {"xaxis": {"title": {"text": "updates"}}, "yaxis": _layout(y, results.label), "height": 420}
    if level is not None:
        lines.append(_level(_at(y, level), results.sweep.budget.updates, "data against itself"))
    return {"data": lines, "layout": layout}


def level_of_data(results: SweepResults) -> float | None:
    """What other training images measure, at the grids of the best trial; scaled as the objective is shown."""
    objective = results.sweep.objective
    value = score((results.result or {}).get(family_of(objective), {}).get("data"), objective)
    return None if value is None or not math.isfinite(value) else value * factor_of(objective)


def against_parameters(results: SweepResults, axes: Sequence[ParameterAxis]) -> list[Figure]:
    """The objective against every parameter in which trials differ."""
    titles = (f"{axis.name}, grid {axis.grid}" if axis.grid else axis.name for axis in axes)
    return [
        _scatter(results, axis.values, axis.axis, axis.path, title) for axis, title in zip(axes, titles, strict=True)
    ]


def together(results: SweepResults, axes: Sequence[ParameterAxis]) -> Figure | None:
    """Parallel coordinates: an axis per parameter, the objective last, and a line per trial."""
    if not axes:
        return None
    ranks = range(len(results.trials))
    dimensions = []
    for found in axes:
        values = [found.values.get(rank, _ABSENT) for rank in ranks]
        axis = make_axis(values, is_log=found.axis.is_log)
        grid = f", {found.grid}" if found.grid else ""
        dimensions.append(_dimension(axis, values, f"{found.name}{grid}{' (log)' if axis.is_log else ''}"))
    objectives = [objective_of(trial, results.sweep.objective) for trial in results.trials]
    dimensions.append(_dimension(objective_axis(results), objectives, results.label))
    line = {"color": [_quality(results, rank) for rank in ranks], "colorscale": _BEST_TO_WORST, "cmin": 0, "cmax": 1}
    data = {"type": "parcoords", "dimensions": dimensions, "line": line, "customdata": list(ranks)}
    return {"data": [data], "layout": {"width": max(900, 130 * len(dimensions)), "height": 430}}


def trade(results: SweepResults) -> tuple[list[Figure], list[Trial]]:
    """Quality against two kinds of cost, and the trials that are on the front of one of them, best first."""
    costs: dict[str, tuple[Callable[[Trial], float | None], int]] = {
        "Langevin steps of a sample": (ranking.gradient_evaluations, 1),
        "images per second of training": (ranking.slowness, -1),
    }
    figures, on_front = [], set()
    for title, (cost, sign) in costs.items():
        prices = {rank: sign * price for rank, t in enumerate(results.trials) if (price := cost(t)) is not None}
        if not prices:
            continue
        front = ranking.pareto_front(results.trials, cost)
        on_front |= {trial.name for trial in front}
        x = make_axis(prices.values(), is_log=spans_decades(prices.values()))
        stairs = [results.trials.index(trial) for trial in front]  # from the cheapest to the best
        figures.append(_scatter(results, prices, x, title, f"objective against {title}", stairs))
    return figures, [trial for trial in results.trials if trial.name in on_front]


def _scatter(
    results: SweepResults,
    values: Mapping[int, Any],
    x: Axis,
    x_title: str,
    title: str,
    front: Sequence[int] = (),
) -> Figure:
    """A mark per trial, the best on top. front: the ranks of trials that a staircase joins."""
    y, ranks = objective_axis(results), sorted(values, reverse=True)
    trials = [results.trials[rank] for rank in ranks]
    states = [trial.state for trial in trials]
    marks = {
        "type": "scatter",
        "mode": "markers",
        "x": [_at(x, values[rank]) for rank in ranks],
        "y": [_at(y, objective_of(trial, results.sweep.objective)) for trial in trials],
        "customdata": ranks,
        "text": [_tip(results, trial) for trial in trials],
        "hoverinfo": "text",
        "marker": _marker(states) | {"size": [13 if rank == 0 else 9 for rank in ranks]},
    }
    steps = {
        "type": "scatter",
        "mode": "lines",
        "x": [_at(x, values[rank]) for rank in front],
        "y": [_at(y, objective_of(results.trials[rank], results.sweep.objective)) for rank in front],
        "line": {"shape": "hv", "dash": "dash", "color": "--text"},
        "hoverinfo": "skip",
    }
    layout = {"title": {"text": _plain(title)}, "height": 320}
    layout |= {"xaxis": _layout(x, x_title), "yaxis": _layout(y, results.label)}
    return {"data": [*([steps] if len(front) > 1 else []), marks], "layout": layout}


def _way(trial: Trial, results: SweepResults) -> list[tuple[int, Any]]:
    """(updates, objective as it is shown) of every evaluation, and where the trial ended if it has no result."""
    factor = factor_of(results.sweep.objective)
    way: list[tuple[int, Any]] = [(updates, value * factor) for updates, value in trial.history if math.isfinite(value)]
    if ranking.result(trial) is None or not way:
        way.append((trial.updates, objective_of(trial, results.sweep.objective)))
    return way


def _at(axis: Axis, value: Any) -> Any:
    """Where a value stands: itself on an axis of numbers alone, else its place from 0 to 1."""
    return axis.place(value) if axis.slots else value


def _layout(axis: Axis, title: str) -> dict[str, Any]:
    named = {"title": {"text": _plain(f"{title} (log)" if axis.is_log else title), "standoff": 12}}
    if not axis.slots:
        return named | {"type": "log" if axis.is_log else "linear"}
    places, texts = zip(*axis.labels, strict=True)
    return named | {"tickvals": places, "ticktext": [_plain(_short(text)) for text in texts], "range": [-0.03, 1.03]}


def _dimension(axis: Axis, values: Sequence[Any], title: str) -> dict[str, Any]:
    """An axis of parallel coordinates, which takes numbers only."""
    places, texts = zip(*axis.labels, strict=True)
    return {
        "label": _short(title, 22),
        "values": [axis.place(value) for value in values],
        "tickvals": places,
        "ticktext": [_short(text) for text in texts],
        "range": [0, 1],
    }


def _short(text: str, most: int = 16) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _plain(text: str) -> str:
    """Text without what plotly would take for a tag of HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _marker(states: Sequence[str]) -> dict[str, Any]:
    return {"symbol": [SYMBOLS[state][0] for state in states], "color": [COLORS[state] for state in states]}


def _level(y: float, to: float, text: str) -> dict[str, Any]:
    line = {"dash": "dash", "color": "--text"}
    return {"type": "scatter", "mode": "lines+text", "x": [0, to], "y": [y, y], "line": line, "hoverinfo": "skip"} | {
        "text": [text, ""],
        "textposition": "top right",
    }


def _quality(results: SweepResults, rank: int) -> float:
    """0 for the best to 1 for the worst, by rank."""
    num = sum(ranking.result(trial) is not None for trial in results.trials)
    return min(1.0, rank / max(1, num - 1))


def _shade(results: SweepResults, rank: int) -> str:
    if ranking.result(results.trials[rank]) is None:
        return "--diverged"
    return f"--s{round(8 * _quality(results, rank))}"


def _tip(results: SweepResults, trial: Trial) -> str:
    """What is shown under the mouse."""
    shown = list(trial.parameters.items())[:_PARAMETERS_IN_TIP]
    lines = [
        f"{trial.name}: {trial.state}",
        f"{results.label} = {ranking.with_spread(trial, results.sweep.objective)}",
        *(f"{path} = {text_of(value)}" for path, value in shown),
        *([f"and {len(trial.parameters) - len(shown)} more"] if len(trial.parameters) > len(shown) else []),
    ]
    return "<br>".join(map(_plain, lines))
