"""The table of a comparison as Markdown, from what results.json holds."""

import math
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from distmgcd.comparison.comparison_plan import FARTHEST
from distmgcd.comparison.score_run import mean_distance
from distmgcd.config.cost import in_words

Outcome = dict[str, Any]


def markdown(results: dict[str, Any]) -> str:
    """Distances to the held-out images, what was chosen for each method, and by what rules."""
    plan, methods = results["plan"], results["methods"]
    sizes, names = [str(size) for size in plan["sizes"]], _names(methods)
    parts = [
        f"# Comparison {plan['name']}\n",
        f"1000 x sliced Wasserstein distance to {_judges(plan)}, mean ± standard deviation over training seeds "
        f"{_listed(plan['seeds'])}; smaller is better.\n",
        _rows(["method", *(f"{size}x{size}" for size in sizes), "mean", *names], _distances(methods, sizes, names)),
        *_in_features(methods, names),
        *_excess(methods, names),
        "What each of them is:\n",
        _what_each_is(plan, methods),
        *_unequal(plan, methods),
        _rules(plan, methods),
    ]
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
        in_features = _of_names([final["features"]["samples"] for final in _measured_of(outcome)], names)
        yield [title, *of_sizes, _with_spread([mean_distance(swd) for swd in found]), *in_features]
    finals = [final for outcome in methods.values() for final in outcome["finals"] if "diverged" not in final]
    if finals:
        values = finals[0]["data"]["swd"]
        of_sizes = (_number(values[size]) for size in sizes)
        in_features = _of_names([final["features"]["data"] for final in _measured(methods)[:1]], names)
        yield ["data against itself", *of_sizes, _number(mean_distance(values)), *in_features]


def _final_of(outcome: Outcome, final: dict[str, Any]) -> dict[str, float]:
    """The distances by which this method is judged, per size."""
    if outcome["judged"] == "bank":
        return final["bank"]["swd"]
    return final["samples"][outcome["chosen"]["way"]]["swd"]


def _measured(methods: dict[str, Outcome]) -> list[dict[str, Any]]:
    """The final runs that were measured in features."""
    return [final for outcome in methods.values() for final in _measured_of(outcome)]


def _measured_of(outcome: Outcome) -> list[dict[str, Any]]:
    return [final for final in outcome["finals"] if "features" in final]


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


def _excess(methods: dict[str, Outcome], names: Sequence[str]) -> Iterator[str]:
    """The Frechet distances less those of the data, and what share they are of the first method's."""
    if not names:
        return
    found = {name: _excess_of(outcome, names[0]) for name, outcome in methods.items()}
    found = {name: values for name, values in found.items() if values and all(map(math.isfinite, values))}
    if len(found) < 2:
        return
    first, base = next((name, statistics.mean(values)) for name, values in found.items())
    yield f"Excess {names[0]}, which is the distance less that of the data, and its share of that of {first}:\n"
    yield _rows(
        ["method", "excess", f"of {first}"],
        (
            [name, _with_spread(values, factor=1, mean=".4g", spread=".2g"), f"{statistics.mean(values) / base:.2f}"]
            for name, values in found.items()
        ),
    )


def _excess_of(outcome: Outcome, distance: str) -> list[float]:
    """Per final run that was measured in features."""
    pairs = [
        [final["features"][of]["values"][distance] for of in ("samples", "data")] for final in _measured_of(outcome)
    ]
    return [math.nan if None in pair else pair[0] - pair[1] for pair in pairs]


def _what_each_is(plan: dict[str, Any], methods: dict[str, Outcome]) -> str:
    tuned = plan["tuning"] is not None
    titles = ["method", "chosen" if tuned else "settings", "grids", "steps", "samples drawn with"]
    titles += ["gradient evaluations per sample", "updates", "images seen", "multiply-adds", "training, s"]
    titles += ["validation: best (worst) trial"] if tuned else []
    rows = ([name, *_cells(outcome)] for name, outcome in methods.items())
    return _rows(titles, ([*row, *["-"] * (len(titles) - len(row))][: len(titles)] for row in rows))


def _cells(outcome: Outcome) -> list[str]:
    """Of one method, the last one only for a plan with tuning."""
    chosen, finals = outcome["chosen"], outcome["finals"]
    if not chosen:
        return ["every trial diverged"]
    bank, whole = outcome["judged"] == "bank", [final for final in finals if "diverged" not in final]
    changes = chosen["settings"] if chosen["trial"] is None else chosen["knobs"]
    best = [min(values) for trial in outcome["trials"] if (values := list(_validation(outcome, trial)))]
    return [
        "; ".join(f"{path}={_in_yaml(value)}" for path, value in changes.items()) or "as it is",
        "-".join(map(str, chosen["sizes"])),
        ", ".join(map(str, chosen["steps"])),
        "the bank itself" if bank else chosen["way"],
        "-" if bank else f"{chosen['evaluations_per_sample']:.1f}",
        f"{finals[0]['updates']:,}",
        f"{finals[0]['images']:,}",
        in_words(finals[0]["multiply_adds"]),
        f"{statistics.mean(final['seconds'] for final in whole):.0f}" if whole else "-",
        f"{_number(min(best))} ({_number(max(best))})" if best else "-",
    ]


def _unequal(plan: dict[str, Any], methods: dict[str, Outcome]) -> Iterator[str]:
    """A line where final runs cost clearly less than they may."""
    shares = {
        name: outcome["finals"][0]["multiply_adds"] / plan["budget"]
        for name, outcome in methods.items()
        if outcome["finals"]
    }
    found = [f"{name} {share:.2f}" for name, share in shares.items() if share < 1 - FARTHEST]
    if plan["equal_cost"] and found:
        yield f"Costs are not equal: of what a run may cost, it costs in {_listed(found)}; `updates` is too small.\n"


def _validation(outcome: Outcome, trial: dict[str, Any]) -> Iterator[float]:
    if "diverged" in trial:
        return
    found = [trial["bank"]] if outcome["judged"] == "bank" else trial["samples"].values()
    yield from (mean_distance(of_way["swd"]) for of_way in found)


def _judges(plan: dict[str, Any]) -> str:
    """The images that final runs are measured by."""
    if plan["tuning"] is None and plan["validation"]:
        return f"a {plan['validation']:g} part of the training images that was not learned from"
    return "the held-out images"


def _rules(plan: dict[str, Any], methods: dict[str, Outcome]) -> str:
    tuning, test = plan["tuning"], plan["test"]
    measured = f"measured by {test['draws']} x {test['samples']} samples against {_judges(plan)}"
    banks = " Banks are where persistent chains ended in training: no fresh samples, and no cost to draw."
    if not any(outcome["judged"] == "bank" for outcome in methods.values()):
        banks = ""
    if tuning is None:
        how = f"Nothing was tuned: each method was trained as it is, and {measured}."
    else:
        how = (
            f"Each method was tried with "
            f"{plan['num_trials']} settings, the first its own and the others drawn at random from the same space, and "
            f"each trained model was sampled in {len(plan['ways'])} ways ({_listed(plan['ways'])}); the best by "
            f"{tuning['draws']} x {tuning['samples']} samples against a {plan['validation']:g} part of the training "
            f"images was trained anew on all of them, and {measured}, that nothing before has seen."
        )
    return f"{_budget(plan)} {how}{banks}\n"


def _budget(plan: dict[str, Any]) -> str:
    if not plan["equal_cost"]:
        return f"Every run makes {plan['updates_of_base']:,} updates, whatever they cost."
    every = "Every run, trial or final," if plan["tuning"] else "Every run"
    return (
        f"{every} may cost {in_words(plan['budget'])} multiply-adds, or "
        f"{plan['budget_in_evaluations']:,.0f} gradient evaluations of the finest grid of the base (what "
        f"{plan['updates_of_base']} of its updates cost): Langevin steps and learning, of all grids, count."
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


def _in_yaml(value: Any) -> str:
    """As a change on the command line has it: [[64, 128], [64]]."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_in_yaml, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(map(str, values))
