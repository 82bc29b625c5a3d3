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
from distmgcd.sweep.parameter_axes import KnobAxis, knob_axes, objective_axis, objective_of
from distmgcd.sweep.sweep_results import Findings
from distmgcd.sweep.trial import Trial

_HERE = Path(__file__).parent
_SHADES = 8


def page(findings: Findings) -> str:
    """The whole page. Every text that comes from the sweep is escaped."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", f"Sweep {findings.sweep.name}"),
        element("style", Markup((_HERE / "report.css").read_text())),
    )
    axes = knob_axes(findings)
    body = element(
        "body",
        charts.definitions(),
        summary(findings),
        _sheets(findings),
        _over_updates(findings),
        _against_knobs(findings, axes),
        _parallel(findings, axes),
        _trade(findings),
        _all_trials(findings),
        element("p", f"Made by distmgcd {distmgcd.__version__} from results.parquet.", class_="muted"),
        element("div", id="tip"),
        element("script", Markup((_HERE / "report.js").read_text())),
    )
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def _section(title: str, *content: Markup | str | None) -> Markup:
    return element("section", element("h2", title), *content)


def _sheets(findings: Findings) -> Markup | None:
    """Samples of the best trials, each as its run wrote them."""
    trials = {trial.name: trial for trial in findings.trials}
    figures = []
    for name, content in findings.sheets.items():
        caption = f"{name}: {findings.label} {_value(findings, trials[name])}"
        source = f"data:image/png;base64,{base64.b64encode(content).decode()}"
        image = element("img", src=source, alt=f"Fresh samples of {name}")
        figures.append(element("figure", image, element("figcaption", caption)))
    if not figures:
        return None
    words = "Fresh samples of the best trials, best first: the same seeds, every sheet as its run ended."
    return _section("What the best look like", element("p", words), element("div", *figures, class_="sheets"))


def _value(findings: Findings, trial: Trial) -> str:
    return ranking.with_spread(trial, findings.sweep.objective)


def _legend(findings: Findings) -> Markup | None:
    """What marks and colours mean, in all pictures below."""
    if not findings.trials:
        return None
    keys = [element("span", charts.symbol(state), state) for state in ranking.counts(findings.trials)]
    ramp = element("span", "lines: best ", element("span", class_="ramp"), " worst, by rank; dashed: no result")
    ring = element("span", "a ring: the best; point at a trial to find it in every picture")
    return element("div", *keys, ramp, ring, class_="legend")


def _shades(findings: Findings) -> list[int | None]:
    """How good each trial is among those with a result, 0 to 8."""
    num = sum(ranking.result(trial) is not None for trial in findings.trials)
    return [
        None if ranking.result(trial) is None else round(_SHADES * rank / max(1, num - 1))
        for rank, trial in enumerate(findings.trials)
    ]


def _over_updates(findings: Findings) -> Markup | None:
    """Where each trial went; the line of one that diverged rises to where it says so."""
    factor, objective = factor_of(findings.sweep.objective), findings.sweep.objective
    ways, ends = [], []
    for rank, (trial, shade) in enumerate(zip(findings.trials, _shades(findings), strict=True)):
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
    level = _of_data_itself(findings)
    values = [*(value for way in ways for _, value in way.points), *(level[:1] if level else ())]
    frame = Frame(
        "",
        make_axis([0, findings.sweep.num_updates, *(updates for way in ways for updates, _ in way.points)]),
        make_axis(values, is_log=spans_decades(values), slots_last=True),
        "updates",
        findings.label,
        width=1040,
        height=400,
    )
    return _section(
        "Objective over updates",
        element("p", objective_in_words(objective, findings.trials), ", at every evaluation."),
        _legend(findings),
        element("div", charts.lines(frame, ways, ends, level=level), class_="scroll"),
    )


def _of_data_itself(findings: Findings) -> tuple[float, str] | None:
    """What other training images measure, at the grids of the best trial."""
    objective = findings.sweep.objective
    value = score((findings.result or {}).get(family_of(objective), {}).get("data"), objective)
    if value is None or not math.isfinite(value):
        return None
    return value * factor_of(objective), "data against itself"


def _against_knobs(findings: Findings, axes: list[KnobAxis]) -> Markup | None:
    if not axes:
        return (
            _section("Objective against each setting", element("p", "No two trials differ in a setting."))
            if findings.trials
            else None
        )
    y, objective = objective_axis(findings), findings.sweep.objective
    panels = []
    for knob in axes:
        title = f"{knob.name}, grid {knob.grid}" if knob.grid else knob.name
        frame = Frame(title, knob.axis, y, knob.path, findings.label, width=345, height=260)
        marks = [
            Mark(rank, findings.trials[rank].state, value, objective_of(findings.trials[rank], objective))
            for rank, value in knob.values.items()
        ]
        panels.append(charts.scatter(frame, marks))
    words = (
        "Trials differ in several settings at once, so a trend here is a hint and no proof. Trials that were pruned "
        "stand where they were cut, those without a number in a row above."
    )
    return _section("Objective against each setting", element("p", words), element("div", *panels, class_="charts"))


def _parallel(findings: Findings, axes: list[KnobAxis]) -> Markup | None:
    if not axes:
        return None
    uprights = [(_short(knob.name), _below(knob), knob.axis) for knob in axes]
    uprights.append((findings.label, "", objective_axis(findings)))
    rows = []
    for rank, (trial, shade) in enumerate(zip(findings.trials, _shades(findings), strict=True)):
        points = [(number, knob.values[rank]) for number, knob in enumerate(axes) if rank in knob.values]
        points.append((len(axes), objective_of(trial, findings.sweep.objective)))
        rows.append(Line(rank, points, shade))
    words = "One line a trial, through its settings to its objective on the right; below is good."
    drawn = element("div", charts.parallel(uprights, rows), class_="scroll")
    return _section("Settings together", element("p", words), drawn)


def _below(knob: KnobAxis) -> str:
    return ", ".join([*([f"grid {knob.grid}"] if knob.grid else []), *(["log"] if knob.axis.is_log else [])])


def _short(title: str) -> str:
    return title if len(title) <= 17 else f"{title[:16]}…"


def _trade(findings: Findings) -> Markup | None:
    """Quality against cost, twice."""
    trials, objective, y = findings.trials, findings.sweep.objective, objective_axis(findings)
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
            findings.label,
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
        _front(findings, on_front),
    )


def _front(findings: Findings, on_front: dict[str, Trial]) -> Markup | None:
    if not on_front:
        return None
    rows = [
        [
            trial.name,
            _value(findings, trial),
            trial.gradient_evaluations or "-",
            "-" if trial.images_per_s is None else f"{trial.images_per_s:.0f}",
        ]
        for trial in findings.trials
        if trial.name in on_front
    ]
    return table(["on a front", findings.label, "gradient evaluations", "images/s"], rows)


def _all_trials(findings: Findings) -> Markup:
    words = "Distances swd are multiplied by 1000; ± is the standard deviation over draws of samples. Titles sort."
    return _section("All trials", element("p", words, class_="muted"), table_of_trials(findings))
