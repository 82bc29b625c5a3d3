"""The table of a comparison as Markdown, from what results.json holds."""

import math
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from distmgcd.runs.retention import score

Outcome = dict[str, Any]


def markdown(results: dict[str, Any]) -> str:
    """Distances to the held-out images, what was chosen for each method, and by what rules."""
    plan, methods = results["plan"], results["methods"]
    sizes, names = [str(size) for size in plan["sizes"]], _names(methods)
    parts = [
        f"# Comparison {plan['name']}\n",
        "1000 x sliced Wasserstein distance to the held-out images, mean ± standard deviation over training seeds "
        f"{_listed(plan['seeds'])}; smaller is better.\n",
        _rows(["method", *(f"{size}x{size}" for size in sizes), "mean", *names], _distances(methods, sizes, names)),
        *_in_features(methods, names),
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


def _distances(methods: dict[str, Outcome], sizes: Sequence[str], names: Sequence[str]) -> Iterator[list[str]]:
    for name, outcome in methods.items():
        found = [_final_of(outcome, final) for final in outcome["finals"] if "diverged" not in final]
        lost = len(outcome["finals"]) - len(found)
        title = name + (f" ({lost} of {len(outcome['finals'])} diverged)" if lost else "")
        if not found:
            yield [f"{name} (diverged)", *("-" for _ in sizes), "-", *("-" for _ in names)]
            continue
        of_sizes = (_with_spread([swd[size] for swd in found]) for size in sizes)
        in_features = _of_names([final["features"]["samples"] for final in _measured({name: outcome})], names)
        yield [title, *of_sizes, _with_spread([score(swd, "swd") for swd in found]), *in_features]
    finals = [final for outcome in methods.values() for final in outcome["finals"] if "diverged" not in final]
    if finals:
        values = finals[0]["data"]["swd"]
        of_sizes = (_number(values[size]) for size in sizes)
        in_features = _of_names([final["features"]["data"] for final in _measured(methods)[:1]], names)
        yield ["data against itself", *of_sizes, _number(score(values, "swd")), *in_features]


def _final_of(outcome: Outcome, final: dict[str, Any]) -> dict[str, float]:
    """The distances by which this method is judged, per size."""
    if outcome["judged"] == "bank":
        return final["bank"]["swd"]
    return final["samples"][outcome["chosen"]["way"]]["swd"]


def _measured(methods: dict[str, Outcome]) -> list[dict[str, Any]]:
    """The final runs that were measured in features."""
    return [final for outcome in methods.values() for final in outcome["finals"] if "features" in final]


def _names(methods: dict[str, Outcome]) -> list[str]:
    """Of what was measured in features, the network's in each: FD-Random. None in a plan without features."""
    return [name for final in _measured(methods)[:1] for name in final["features"]["samples"]["values"]]


def _of_names(found: Sequence[dict[str, Any]], names: Sequence[str]) -> Iterator[str]:
    """The distance, and the shares that precision and recall are, over runs."""
    for number, name in enumerate(names):
        values = [math.nan if of_run["values"][name] is None else of_run["values"][name] for of_run in found]
        written = {"mean": ".3f", "spread": ".3f"} if number else {"mean": ".4g", "spread": ".2g"}
        yield _with_spread(values, factor=1, **written) if values else "-"


def _in_features(methods: dict[str, Outcome], names: Sequence[str]) -> Iterator[str]:
    """What the columns of a feature network are, and of which methods they are not comparable, or not there."""
    if not names:
        return
    protocol, [distance, precision, recall] = _measured(methods)[0]["features"]["protocol"], names
    most = max(final["features"]["num"] for final in _measured(methods))
    bias = "; of fewer images than features, as here, much of it is bias" if most < protocol["num_features"] else ""
    yield (
        f"{distance}: Frechet distance in the {protocol['num_features']} features of {protocol['features']} (SHA-256 "
        f"of its weights {protocol['weights_sha256'][:16]}; pictures: {protocol['resize']}), smaller is better. "
        f"{precision}, {recall}: of manifolds of {protocol['k']} neighbours there, larger is better. Of {most} samples "
        "a draw and as many images: compare at equal numbers only, for the distance is biased upwards the more the "
        f"fewer there are{bias}.\n"
    )
    finals = [(name, f) for name, outcome in methods.items() for f in outcome["finals"] if "diverged" not in f]
    for name, num in sorted({(name, f["features"]["num"]) for name, f in finals if "features" in f}):
        if num < most:
            yield f"{name} has {num} chains only, so compare it with no other in these columns.\n"
    if without := [f"{name} (seed {final['seed']})" for name, final in finals if "features" not in final]:
        yield f"Not yet measured in these features: {_listed(without)}.\n"


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


def _with_spread(values: Sequence[float], *, mean: str = ".1f", spread: str = ".1f", factor: float = 1000) -> str:
    if not all(map(math.isfinite, values)):
        return "nan"
    found = f"{factor * statistics.mean(values):{mean}}"
    return found + (f" ± {factor * statistics.stdev(values):{spread}}" if len(values) > 1 else "")


def _number(value: float) -> str:
    return f"{1000 * value:.1f}"


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(map(str, values))
