"""The table of a comparison as Markdown, from what results.json holds."""

import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from distmgcd.runs.retention import score

Outcome = dict[str, Any]


def markdown(results: dict[str, Any]) -> str:
    """Distances to the held-out images, what was chosen for each method, and by what rules."""
    plan, methods = results["plan"], results["methods"]
    sizes = [str(size) for size in plan["sizes"]]
    parts = [
        f"# Comparison {plan['name']}\n",
        "1000 x sliced Wasserstein distance to the held-out images, mean ± standard deviation over training seeds "
        f"{_listed(plan['seeds'])}; smaller is better.\n",
        _rows(["method", *(f"{size}x{size}" for size in sizes), "mean"], _distances(methods, sizes)),
        "What each of them is:\n",
        _rows(
            ["method", "chosen", "grids", "steps", "samples drawn with", "gradient evaluations a sample", "updates",
             "training, s", "validation: best (worst) trial"],
            map(_chosen, methods, methods.values()),
        ),
        _rules(plan),
    ]  # fmt: skip
    if results["unfinished"]:
        parts.append(f"Not yet run to their end: {_listed(results['unfinished'])}.\n")
    return "\n".join(parts)


def _distances(methods: dict[str, Outcome], sizes: Sequence[str]) -> Iterator[list[str]]:
    for name, outcome in methods.items():
        found = [_final_of(outcome, final) for final in outcome["finals"] if "diverged" not in final]
        lost = len(outcome["finals"]) - len(found)
        title = name + (f" ({lost} of {len(outcome['finals'])} diverged)" if lost else "")
        if not found:
            yield [f"{name} (diverged)", *("-" for _ in sizes), "-"]
            continue
        of_sizes = (_with_spread([swd[size] for swd in found]) for size in sizes)
        yield [title, *of_sizes, _with_spread([score(swd, "swd") for swd in found])]
    finals = (final for outcome in methods.values() for final in outcome["finals"] if "diverged" not in final)
    if first := next(finals, None):
        values = first["data"]["swd"]
        yield ["data against itself", *(_number(values[size]) for size in sizes), _number(score(values, "swd"))]


def _final_of(outcome: Outcome, final: dict[str, Any]) -> dict[str, float]:
    """The distances by which this method is judged, per size."""
    if outcome["judged"] == "bank":
        return final["bank"]["swd"]
    return final["samples"][outcome["chosen"]["way"]]["swd"]


def _chosen(name: str, outcome: Outcome) -> list[str]:
    chosen, finals = outcome["chosen"], [final for final in outcome["finals"] if "diverged" not in final]
    if not chosen:
        return [name, "every trial diverged", *("-" for _ in range(7))]
    bank = outcome["judged"] == "bank"
    knobs = outcome["trials"][chosen["trial"]]["knobs"]
    best = [min(values) for trial in outcome["trials"] if (values := list(_validation(outcome, trial)))]
    return [
        name,
        "; ".join(f"{path}={value}" for path, value in knobs.items()) or "as it is",
        "-".join(map(str, chosen["sizes"])),
        ", ".join(map(str, chosen["steps"])),
        "the bank itself" if bank else chosen["way"],
        "-" if bank else f"{chosen['evaluations_per_sample']:.1f}",
        str(outcome["finals"][0]["updates"]),
        f"{statistics.mean(final['seconds'] for final in finals):.0f}" if finals else "-",
        f"{_number(min(best))} ({_number(max(best))})",
    ]


def _validation(outcome: Outcome, trial: dict[str, Any]) -> Iterator[float]:
    if "diverged" in trial:
        return
    found = [trial["bank"]] if outcome["judged"] == "bank" else trial["samples"].values()
    yield from (score(of_way["swd"], "swd") for of_way in found)


def _rules(plan: dict[str, Any]) -> str:
    tuning, test = plan["tuning"], plan["test"]
    return (
        f"Every run, trial or final, may cost {plan['budget_in_evaluations']:,.0f} gradient evaluations of the finest "
        f"grid of the base (what {plan['updates_of_base']} of its updates cost): Langevin steps of other grids and "
        "networks, and learning, count by their multiply-adds. Each method was tried with "
        f"{plan['num_trials']} settings, the first its own and the others drawn at random from the same space, and "
        f"each trained model was sampled in {len(plan['ways'])} ways ({_listed(plan['ways'])}); the best by "
        f"{tuning['draws']} x {tuning['samples']} samples against a {plan['validation']:g} part of the training images "
        f"was trained anew on all of them, and measured by {test['draws']} x {test['samples']} samples against the "
        "held-out images, that nothing before has seen. Banks are where persistent chains ended in training: no fresh "
        "samples, and no cost to draw.\n"
    )


def _rows(titles: Sequence[str], rows: Iterator[list[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _with_spread(values: Sequence[float]) -> str:
    spread = f" ± {_number(statistics.stdev(values))}" if len(values) > 1 else ""
    return _number(statistics.mean(values)) + spread


def _number(value: float) -> str:
    return f"{1000 * value:.1f}"


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(map(str, values))
