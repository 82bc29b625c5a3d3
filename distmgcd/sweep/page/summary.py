"""The head of a report: what was searched, what came of it, and how far to trust it."""

from collections.abc import Mapping, Sequence

from distmgcd.sweep import ranking
from distmgcd.sweep.axes import number_text, text_of
from distmgcd.sweep.objective import measured_of, objective_in_words
from distmgcd.sweep.page import charts
from distmgcd.sweep.page.markup import Markup, element, join
from distmgcd.sweep.parameter_axes import paths_of
from distmgcd.sweep.sweep_results import SweepResults
from distmgcd.sweep.trial import Trial


def summary(results: SweepResults) -> Markup:
    sweep = results.sweep
    return join(
        element("h1", f"Sweep {sweep.name}"),
        element("p", _in_a_sentence(results)),
        *(element("p", warning, class_="trial_state") for warning in results.warnings),
        element(
            "p",
            f"Objective: {objective_in_words(sweep.objective, results.trials)}; smaller is better.",
            class_="muted",
        ),
        element("div", _settings(results), _distances(results), _frechet(results), class_="columns"),
        _trust(results),
        _ends(results),
        _failures(results),
    )


def sentence_of_counts(trials: Sequence[Trial]) -> str:
    """ "12 trials: 10 finished, 2 diverged"."""
    counted = ", ".join(f"{number} {state}" for state, number in ranking.counts(trials).items())
    return f"{len(trials)} trial{'' if len(trials) == 1 else 's'}" + (f": {counted}" if counted else "")


def table(titles: Sequence[str], rows: Sequence[Sequence[object]], *, numbers_from: int = 1) -> Markup:
    """A plain table whose columns are numbers from this one on."""

    def row(kind: str, cells: Sequence[object]) -> Markup:
        return element(
            "tr", *(element(kind, c, class_="number" if i >= numbers_from else None) for i, c in enumerate(cells))
        )

    body = element("tbody", *(row("td", cells) for cells in rows))
    return element("div", element("table", element("thead", row("th", titles)), body), class_="scroll")


def _in_a_sentence(results: SweepResults) -> Markup:
    sweep, best = results.sweep, results.best
    head = (
        f"{sentence_of_counts(results.trials)}. Each is a run of {sweep.base_name} of up to "
        f"{number_text(sweep.budget.updates)} updates, with settings of its own. "
    )
    if best is None:
        return join(head, "No trial has a result yet, so there is no best one.")
    unfinished = "" if best.state == "finished" else f" (no trial came to its end; this one was {best.state})"
    value = ranking.with_spread(best, sweep.objective)
    return join(head, "The best is ", element("strong", best.name), f"{unfinished}, with an objective of ", value, ".")


def _settings(results: SweepResults) -> Markup:
    """What was searched, and what the best trial has."""
    best, space = results.best, results.space
    titles = ["setting", "searched", *(["best"] if best else [])]
    rows = []
    for path in paths_of(results):
        value = [text_of(best.parameters[path]) if path in best.parameters else "-"] if best else []
        rows.append([element("code", path), space.get(path, ""), *value])
    command = join(
        "Train with them on all training images: ", element("code", "distmgcd train best.yaml"), _length(results)
    )
    found = table(titles, rows, numbers_from=9) if rows else element("p", "No setting was searched.")
    return element("div", element("h3", "Settings"), found, element("p", command) if best else None)


def _length(results: SweepResults) -> str:
    """How long best.yaml trains, where trials were shorter."""
    best = results.best
    if best is None:
        return ""
    num_updates = results.sweep.preset_of(best.parameters).learning.num_updates
    if num_updates == best.updates:
        return "."
    return f", {number_text(num_updates)} updates; the trial had {number_text(best.updates)}."


def _distances(results: SweepResults) -> Markup | None:
    """Per grid: the best trial beside what bounds it, if its run says so."""
    best = results.best
    if best is None or not best.swd:
        return None
    sizes = sorted(best.swd, key=_number)
    cells = [
        [title, *(ranking.distance_in_words(values.get(size), spread.get(size)) for size in sizes)]
        for title, values, spread in _best_and_bounds(results, "swd")
    ]
    heading = element("h3", "1000 x sliced Wasserstein distance")
    return element("div", heading, table(["", *(f"{size}x{size}" for size in sizes)], cells))


def _frechet(results: SweepResults) -> Markup | None:
    """The same in a feature network, where that was measured."""
    best = results.best
    if best is None or not best.fd:
        return None
    cells = [
        [title, *(ranking.value_in_words(values.get(name), spread.get(name), "fd") for name in best.fd)]
        for title, values, spread in _best_and_bounds(results, "fd")
    ]
    return element("div", element("h3", "Frechet distance"), table(["", *best.fd], cells))


def _best_and_bounds(results: SweepResults, family: str) -> list[tuple[str, Mapping[str, float], Mapping[str, float]]]:
    """(what, {one: value}, {one: deviation}) of the best trial, and of what it is seen beside."""
    result = results.result or {}
    rows = [("best trial", *measured_of(results.best, family))]
    for key, title in (("untrained", "untrained model"), ("data", "data against itself")):
        if key in result.get(family, {}):
            rows.append((title, result[family][key], result.get(f"{family}_spread", {}).get(key, {})))
    return rows


def _number(text: str) -> float:
    return float(text) if text.isdecimal() else 0.0


def _trust(results: SweepResults) -> Markup | None:
    """The protocol, and how clear the choice is."""
    best, objective = results.best, results.sweep.objective
    if best is None:
        return None
    lines = [element("li", f"{title}: {text}.") for title, text in results.protocol.items()]
    spread = ranking.spread_of(best, objective)
    if spread and len(results.trials) > 1 and (others := _as_good(results, spread)):
        lines.append(element("li", others))
    lines.append(
        element("li", "The best was chosen by this very number: on other images expect it to be a little worse.")
    )
    return join(element("h3", "How it was measured"), element("ul", *lines))


def _as_good(results: SweepResults, spread: float) -> str:
    best, objective = results.best, results.sweep.objective
    near = [
        trial.name
        for trial in results.trials
        if trial is not best and (value := ranking.result(trial)) is not None and value <= best.objective + spread
    ]
    width = "± is the standard deviation over draws of samples"
    width += ", of a mean over grids a bound on it" if objective == "swd" else ""
    if not near:
        return f"{width}; no other trial is within it of the best."
    names = ", ".join(near[:5]) + (", ..." if len(near) > 5 else "")
    return f"{width}; {len(near)} other trial{'s are' if len(near) > 1 else ' is'} within it of the best ({names})."


def _ends(results: SweepResults) -> Markup | None:
    """Why trials did not come to their end, counted."""
    found = ranking.reasons(results.trials)
    if not found:
        return None
    rows = [
        element(
            "tr",
            element("td", count, class_="number"),
            element("td", charts.symbol(state), f" {state}"),
            element("td", reason, class_="words"),
        )
        for state, reason, count in found
    ]
    head = element(
        "tr", *(element("th", title) for title in ("trials", "state", "reason, or one of those of its kind"))
    )
    body = element("table", element("thead", head), element("tbody", *rows))
    return join(element("h3", "Trials that did not come to their end"), element("div", body, class_="scroll"))


def _failures(results: SweepResults) -> Markup | None:
    """Processes that were lost without ending a trial, counted."""
    found = ranking.failures(results.trials)
    if not found:
        return None
    titles = ["failures", "what happened, or one of those of its kind", "to"]
    head = element("tr", *(element("th", title) for title in titles))
    rows = (
        element(
            "tr",
            element("td", count, class_="number"),
            element("td", why, class_="words"),
            element("td", ", ".join(names), class_="words"),
        )
        for why, count, names in found
    )
    body = element("table", element("thead", head), element("tbody", *rows))
    return join(
        element("h3", "Failures that trials went on after, from their newest checkpoints"),
        element("div", body, class_="scroll"),
    )
