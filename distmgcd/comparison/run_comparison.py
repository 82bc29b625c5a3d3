"""A comparison from its plan to its results: try, choose by validation images, train anew, measure by held-out ones.

samples.png shows samples of every method, one below the other, and held-out images above them.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import Tensor

from distmgcd.comparison.comparison_plan import Plan, Sampling, Variant
from distmgcd.comparison.final_features import FeatureScorer, InFeatures, open_scorer
from distmgcd.comparison.markdown_table import markdown
from distmgcd.comparison.score_run import Runs, Scorer, Scores, drawn, mean_distance, name_of
from distmgcd.config import Config
from distmgcd.config.cost import sample_cost, update_cost
from distmgcd.config.kinds import suggest
from distmgcd.errors import UserError
from distmgcd.evaluation.pictures.strip import Row, Strip, strips_as_png
from distmgcd.models.assemble import open_held_out_images
from distmgcd.models.sampling import as_floats
from distmgcd.runs import strict_json
from distmgcd.runs.store import Store

Show = Callable[[str], None]
InNetwork = Callable[[Config, Sampling | None], InFeatures | None]  # of a final run; None where not yet measured


def compare(
    plan: Plan, runs: Runs, store: Store, *, only: Sequence[str] | None = None, show: Show = lambda _: None
) -> dict[str, Any]:
    """Do what the plan has left to do, of these methods only if some are named, and write what there is by then.

    Returns what results.json holds. Raises UserError and Stopped.
    """
    in_features = open_scorer(plan, runs)
    for name in only or plan.variants:
        if name not in plan.variants:
            raise UserError(
                f"--only must name methods of the plan {plan.name}, but {name!r} is none"
                f"{suggest(name, list(plan.variants))}; there are {', '.join(plan.variants)}."
            )
        measure_in = in_features and _measure_in_features(in_features, name, show)
        _outcome(plan, plan.variants[name], _measure(plan, runs, name, show), measure_in)
    return write_results(plan, runs, store, in_features)


def write_results(plan: Plan, runs: Runs, store: Store, in_features: FeatureScorer | None) -> dict[str, Any]:
    """results.json, and from it table.md and samples.png, of all methods that have come to their end."""
    read_in = in_features and in_features.read
    outcomes = {name: _outcome(plan, variant, runs.read, read_in) for name, variant in plan.variants.items()}
    features = {"features": in_features.network.protocol()} if in_features else {}
    results = {
        "plan": _in_words(plan) | features,
        "methods": {name: outcome for name, outcome in outcomes.items() if outcome},
        "unfinished": [name for name, outcome in outcomes.items() if not outcome],
    }
    store.write("results.json", strict_json.dumps(results, indent=1).encode())
    store.write("table.md", markdown(results).encode())
    write_sheet(plan, results["methods"], runs, store)
    return results


def _measure(plan: Plan, runs: Runs, name: str, show: Show) -> Scorer:
    """runs.measure that says what it is about to do."""

    def measure(config: Config, ways: Sequence[Sampling]) -> Scores:
        if (found := runs.read(config, ways)) is None:
            kind = "a trial" if plan.tuning and config.data.validation else "a final run"
            show(f"{name}: {kind}, {config.learning.num_updates} updates, seed {config.seed}: {runs.path(config)}")
            found = runs.measure(config, ways)
            show(f"{name}: {found.get('diverged') or _in_words_of(found)}")
        return found

    return measure


def _measure_in_features(in_features: FeatureScorer, name: str, show: Show) -> InNetwork:
    """in_features.measure where it has not, saying so."""

    def measure(config: Config, way: Sampling | None) -> InFeatures:
        if (found := in_features.read(config, way)) is None:
            show(f"{name}: a final run, seed {config.seed}, in the features of {in_features.network.label}")
            found = in_features.measure(config, way)
            values = found["samples"]["values"].items()
            show(f"{name}: " + ", ".join(f"{what} {'nan' if v is None else f'{v:.4g}'}" for what, v in values))
        return found

    return measure


def _in_words_of(scores: Scores) -> str:
    found = {**scores["samples"], **({"the bank": scores["bank"]} if "bank" in scores else {})}
    distances = ", ".join(f"{1000 * mean_distance(one['swd']):.1f} ({way})" for way, one in found.items())
    return f"1000 x mean distance {distances}; {scores['seconds']:.0f} s of training"


def _outcome(plan: Plan, variant: Variant, scorer: Scorer, in_network: InNetwork | None) -> dict[str, Any] | None:
    """All trials of a method, what was chosen, and its final runs; None where the scorer has not measured them all.

    Final runs that have not been measured in features are there without them.
    """
    if (trials := _trials(plan, variant, scorer)) is None:
        return None
    if (chosen := _chosen(plan, variant, trials)) is None:
        return {"judged": variant.judged, "trials": trials, "chosen": None, "finals": []}
    way, parameters = plan.sampling[chosen["way_number"]], chosen["knobs"]
    judged = way if variant.judged == "samples" else None
    configs, finals = [plan.final(variant, parameters, seed=seed) for seed in plan.seeds], []
    for config in configs:
        if (final := _run(plan, config, [judged] if judged else [], scorer)) is None:
            return None
        if in_network and "diverged" not in final and (found := in_network(config, judged)):
            final["features"] = found
        finals.append({"seed": config.seed, **final})
    config = configs[0]
    steps = config.per_grid("langevin.num_steps")
    words = {
        "settings": {**variant.settings, **parameters},
        "way": str(way),
        "steps": steps,
        "sizes": list(config.grids.sizes),
    }
    cost = way.times * sample_cost(config) / plan.unit
    chosen |= {**words, "evaluations_per_sample": 0.0 if variant.judged == "bank" else cost}
    return {"judged": variant.judged, "trials": trials, "chosen": chosen, "finals": finals}


def _trials(plan: Plan, variant: Variant, scorer: Scorer) -> list[dict[str, Any]] | None:
    """What was tried of a method, nothing in a plan without tuning; None where not all of it has been measured."""
    trials = []
    for number in range(1, 1 + plan.num_trials):
        parameters = plan.parameters(variant, number)
        if (trial := _run(plan, plan.trial(variant, parameters), plan.sampling, scorer)) is None:
            return None
        trials.append({"knobs": parameters, **trial})
    return trials


def _run(plan: Plan, config: Config, ways: Sequence[Sampling], scorer: Scorer) -> dict[str, Any] | None:
    if (scores := scorer(config, ways)) is None:
        return None
    num_updates, cost = config.learning.num_updates, config.learning.num_updates * update_cost(config)
    return {
        "run": name_of(config),
        "updates": num_updates,
        "images": num_updates * config.learning.global_batch_size,
        "evaluations": cost / plan.unit,
        "multiply_adds": cost,
        **scores,
    }


def _chosen(plan: Plan, variant: Variant, trials: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Which trial and way have the least distance to the validation images; None if all trials diverged.

    In a plan without tuning the method as it is, and the only way.
    """
    if plan.tuning is None:
        return {"trial": None, "knobs": {}, "way_number": 0, "validation": None}
    if not (found := min(_judged(plan, variant, trials), default=None)):
        return None
    distance, number, way = found
    return {"trial": number, "knobs": trials[number]["knobs"], "way_number": way, "validation": distance}


def _judged(plan: Plan, variant: Variant, trials: Sequence[dict[str, Any]]) -> Iterable[tuple[float, int, int]]:
    """(mean distance over sizes, number of the trial, number of the way)."""
    for number, trial in enumerate(trials):
        if "diverged" in trial:
            continue
        if variant.judged == "bank":
            yield mean_distance(trial["bank"]["swd"]), number, 0
            continue
        for way, sampling in enumerate(plan.sampling):
            yield mean_distance(trial["samples"][str(sampling)]["swd"]), number, way


def _in_words(plan: Plan) -> dict[str, Any]:
    return {
        "name": plan.name,
        "updates_of_base": plan.updates,
        "budget_in_evaluations": plan.budget / plan.unit,
        "budget": plan.budget,
        "equal_cost": plan.equal_cost,
        "num_trials": plan.num_trials,
        "ways": [str(way) for way in plan.sampling],
        "seeds": list(plan.seeds),
        "tuning": plan.tuning and vars(plan.tuning),
        "test": vars(plan.test),
        "validation": plan.validation,
        "sizes": list(plan.sizes),
    }


NUM_PICTURES = 16
_SEED = 1  # as of the first draw that is measured


def write_sheet(plan: Plan, methods: dict[str, Any], runs: Runs, store: Store) -> None:
    """The first samples, not chosen ones, of each method's first final run that did not diverge."""
    strips: list[Strip] = []
    for name, outcome in methods.items():
        final = next((final for final in outcome["finals"] if "diverged" not in final), None)
        if final is None:
            continue
        chosen = outcome["chosen"]
        config = plan.final(plan.variants[name], chosen["knobs"], seed=final["seed"])
        if not strips:
            held_out = open_held_out_images(config)
            strips.append(_strip(held_out.name, as_floats(held_out.images[:NUM_PICTURES])))
        trained = runs.load(config)
        if (bank := trained.bank) is not None and outcome["judged"] == "bank":
            strips.append(_strip(f"{name}: persistent chains", bank[:NUM_PICTURES]))
        else:
            pictures = drawn(trained, plan.sampling[chosen["way_number"]], NUM_PICTURES, seed=_SEED)
            strips.append(_strip(f"{name}: fresh samples, {chosen['way']}", pictures))
    if strips:
        store.write("samples.png", strips_as_png(strips))


def _strip(title: str, pictures: Tensor) -> Strip:
    return Strip(title, [Row.plain("", pictures)])
