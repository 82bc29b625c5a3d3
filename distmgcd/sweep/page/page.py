"""report.html: a sweep in one file that needs no network, in the order of a reader's questions."""

import base64
import math
from pathlib import Path

import distmgcd
from distmgcd.runs.retention import score
from distmgcd.sweep import ranking
from distmgcd.sweep.axes import make_axis, spans_decades
from distmgcd.sweep.objective import factor_of, family_of, objective_in_words
from distmgcd.sweep.page import charts
from distmgcd.sweep.page.charts import Frame, Line, Mark
from distmgcd.sweep.page.markup import Markup, element
from distmgcd.sweep.page.summary import summary, table
from distmgcd.sweep.page.trial_table import table_of_trials
from distmgcd.sweep.parameter_axes import ParameterAxis, objective_axis, objective_of, parameter_axes
from distmgcd.sweep.sweep_results import SweepResults
from distmgcd.sweep.trial import Trial

_HERE = Path(__file__).parent
_SHADES = 8


def page(results: SweepResults) -> str:
    """The whole page. Every text that comes from the sweep is escaped."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", f"Sweep {results.sweep.name}"),
        element("style", Markup((_HERE / "report.css").read_text())),
    )
    axes = parameter_axes(results)
    body = element(
        "body",
        charts.definitions(),
        summary(results),
        _sheets(results),
        _over_updates(results),
        _against_parameters(results, axes),
        _parallel(results, axes),
        _trade(results),
        _all_trials(results),
        element("p", f"Made by distmgcd {distmgcd.__version__} from results.parquet.", class_="muted"),
        element("div", id="tip"),
        element("script", Markup((_HERE / "report.js").read_text())),
    )
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def _section(title: str, *content: Markup | str | None) -> Markup:
    return element("section", element("h2", title), *content)


def _sheets(results: SweepResults) -> Markup | None:
    """Samples of the best trials, each as its run wrote them."""
    trials = {trial.name: trial for trial in results.trials}
    figures = []
    for name, content in results.sheets.items():
        caption = f"{name}: {results.label} {_value(results, trials[name])}"
        source = f"data:image/png;base64,{base64.b64encode(content).decode()}"
        image = element("img", src=source, alt=f"Fresh samples of {name}")
        figures.append(element("figure", image, element("figcaption", caption)))
    if not figures:
        return None
    words = "Fresh samples of the best trials, best first: the same seeds, every sheet as its run ended."
    return _section("What the best look like", element("p", words), element("div", *figures, class_="sheets"))


def _value(results: SweepResults, trial: Trial) -> str:
    return ranking.with_spread(trial, results.sweep.objective)


def _legend(results: SweepResults) -> Markup | None:
    """What marks and colours mean, in all pictures below."""
    if not results.trials:
        return None
    keys = [element("span", charts.symbol(state), state) for state in ranking.counts(results.trials)]
    ramp = element("span", "lines: best ", element("span", class_="ramp"), " worst, by rank; dashed: no result")
    ring = element("span", "a ring: the best; point at a trial to find it in every picture")
    return element("div", *keys, ramp, ring, class_="legend")


def _shades(results: SweepResults) -> list[int | None]:
    """How good each trial is among those with a result, 0 to 8."""
    num = sum(ranking.result(trial) is not None for trial in results.trials)
    return [
        None if ranking.result(trial) is None else round(_SHADES * rank / max(1, num - 1))
        for rank, trial in enumerate(results.trials)
    ]


def _over_updates(results: SweepResults) -> Markup | None:
    """Where each trial went; the line of one that diverged rises to where it says so."""
    factor, objective = factor_of(results.sweep.objective), results.sweep.objective
    ways, ends = [], []
    for rank, (trial, shade) in enumerate(zip(results.trials, _shades(results), strict=True)):
        if trial.state == "waiting":
            continue
        points = [(updates, value * factor) for updates, value in trial.history if abs(value) < float("inf")]
        end = (trial.updates, objective_of(trial, objective))
        if ranking.result(trial) is None or not points:
            points.append(end)
        ways.append(Line(rank, points, shade))
        ends.append(Mark(rank, trial.state, *points[-1]))
    if not ways:
        return None
    level = _of_data_itself(results)
    values = [*(value for way in ways for _, value in way.points), *(level[:1] if level else ())]
    frame = Frame(
        "",
        make_axis([0, results.sweep.budget.updates, *(updates for way in ways for updates, _ in way.points)]),
        make_axis(values, is_log=spans_decades(values), slots_last=True),
        "updates",
        results.label,
        width=1040,
        height=400,
    )
    return _section(
        "Objective over updates",
        element("p", objective_in_words(objective, results.trials), ", at every evaluation."),
        _legend(results),
        element("div", charts.lines(frame, ways, ends, level=level), class_="scroll"),
    )


def _of_data_itself(results: SweepResults) -> tuple[float, str] | None:
    """What other training images measure, at the grids of the best trial."""
    objective = results.sweep.objective
    value = score((results.result or {}).get(family_of(objective), {}).get("data"), objective)
    if value is None or not math.isfinite(value):
        return None
    return value * factor_of(objective), "data against itself"


def _against_parameters(results: SweepResults, axes: list[ParameterAxis]) -> Markup | None:
    if not axes:
        return (
            _section("Objective against each setting", element("p", "No two trials differ in a setting."))
            if results.trials
            else None
        )
    y, objective = objective_axis(results), results.sweep.objective
    panels = []
    for parameter in axes:
        title = f"{parameter.name}, grid {parameter.grid}" if parameter.grid else parameter.name
        frame = Frame(title, parameter.axis, y, parameter.path, results.label, width=345, height=260)
        marks = [
            Mark(rank, results.trials[rank].state, value, objective_of(results.trials[rank], objective))
            for rank, value in parameter.values.items()
        ]
        panels.append(charts.scatter(frame, marks))
    words = (
        "Trials differ in several settings at once, so a trend here is a hint and no proof. Trials that were pruned "
        "stand where they were cut, those without a number in a row above."
    )
    return _section("Objective against each setting", element("p", words), element("div", *panels, class_="charts"))


def _parallel(results: SweepResults, axes: list[ParameterAxis]) -> Markup | None:
    if not axes:
        return None
    uprights = [(_short(parameter.name), _below(parameter), parameter.axis) for parameter in axes]
    uprights.append((results.label, "", objective_axis(results)))
    rows = []
    for rank, (trial, shade) in enumerate(zip(results.trials, _shades(results), strict=True)):
        points = [(number, parameter.values[rank]) for number, parameter in enumerate(axes) if rank in parameter.values]
        points.append((len(axes), objective_of(trial, results.sweep.objective)))
        rows.append(Line(rank, points, shade))
    words = "One line a trial, through its settings to its objective on the right; below is good."
    drawn = element("div", charts.parallel(uprights, rows), class_="scroll")
    return _section("Settings together", element("p", words), drawn)


def _below(parameter: ParameterAxis) -> str:
    return ", ".join(
        [*([f"grid {parameter.grid}"] if parameter.grid else []), *(["log"] if parameter.axis.is_log else [])]
    )


def _short(title: str) -> str:
    return title if len(title) <= 17 else f"{title[:16]}…"


def _trade(results: SweepResults) -> Markup | None:
    """Quality against cost, twice."""
    trials, objective, y = results.trials, results.sweep.objective, objective_axis(results)
    fronts = {
        "Langevin steps a sample": (ranking.gradient_evaluations, 1),
        "images per second of training": (ranking.slowness, -1),
    }
    panels, on_front = [], {}
    for title, (cost, sign) in fronts.items():
        costs = {rank: sign * price for rank, t in enumerate(trials) if (price := cost(t)) is not None}
        if not costs:
            continue
        front = ranking.pareto_front(trials, cost)
        on_front |= {trial.name: trial for trial in front}
        x = make_axis(costs.values(), is_log=spans_decades(costs.values()))
        frame = Frame(
            f"Objective against {title}",
            x,
            y,
            title,
            results.label,
            500,
            330,
        )
        marks = [
            Mark(rank, trials[rank].state, price, objective_of(trials[rank], objective))
            for rank, price in costs.items()
        ]
        stairs = [(sign * cost(trial), objective_of(trial, objective)) for trial in front]
        panels.append(charts.scatter(frame, marks, front=stairs))
    if not panels:
        return None
    words = (
        "A Langevin step costs one gradient of the energy, so the number of steps, all grids together, is the cost of "
        "a sample on any machine; images per second are of this machine, and of trials that may have shared it. "
        "Dashed: the front, finished trials than which none is both cheaper and better."
    )
    return _section(
        "Quality against cost",
        element("p", words),
        element("div", *panels, class_="charts"),
        _front(results, on_front),
    )


def _front(results: SweepResults, on_front: dict[str, Trial]) -> Markup | None:
    if not on_front:
        return None
    rows = [
        [
            trial.name,
            _value(results, trial),
            trial.gradient_evaluations or "-",
            "-" if trial.images_per_s is None else f"{trial.images_per_s:.0f}",
        ]
        for trial in results.trials
        if trial.name in on_front
    ]
    return table(["on a front", results.label, "gradient evaluations", "images/s"], rows)


def _all_trials(results: SweepResults) -> Markup:
    words = "Distances swd are multiplied by 1000; ± is the standard deviation over draws of samples. Titles sort."
    return _section("All trials", element("p", words, class_="muted"), table_of_trials(results))
