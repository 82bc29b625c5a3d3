"""Reading a plan. Every mistake is a UserError that names the file and the line."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from distmgcd.comparison.comparison_plan import SET_BY_PLAN, Measure, Plan, Sampling, Variant
from distmgcd.config import check_changes, find_base, load_config, make_config, setting_paths, suggest_setting
from distmgcd.config.document import Document, Place, Strict, find_file, read_document
from distmgcd.config.kinds import Factor, PositiveInt, Rule, Seed, Text
from distmgcd.errors import UserError
from distmgcd.launch import start_run
from distmgcd.sweep.domains import WrongDomain, read_domain
from distmgcd.sweep.plan import flat_of, nested
from distmgcd.sweep.space import Space

PLANS = Path(__file__).parent.parent / "presets" / "comparisons"

Settings = Annotated[dict[str, Any], Rule("settings, as {dotted path: value}")]


class _Variant(Strict):
    settings: Settings = {}
    space: Settings = {}
    judged: Literal["samples", "bank"] = "samples"


class _Plan(Strict):
    base: str
    settings: Settings = {}
    updates: PositiveInt
    equal_cost: bool = True
    num_trials: PositiveInt | None = None
    seeds: Annotated[list[Seed], Field(min_length=1), Rule("a list of whole numbers, one at least")]
    tuning_seed: Seed = 0
    validation: Factor | None = None
    sizes: list[PositiveInt] | None = None
    tuning: Measure | None  # None is written none
    test: Measure
    sampling: Annotated[list[Sampling], Field(min_length=1), Rule("a list of {times: 1, start: climb}")] = [Sampling()]
    space: Settings = {}
    variants: Annotated[dict[str, _Variant], Field(min_length=1), Rule("a method, as {name: {settings: ...}}")]
    features: Text | None = None

    @field_validator("tuning", mode="before")
    @classmethod
    def _none_is_no_measure(cls, tuning: Any) -> Any:
        return None if tuning == "none" else tuning


def plan_names() -> list[str]:
    return sorted(path.stem for path in PLANS.glob("*.yaml"))


def read_plan(source: str, changes: Sequence[str] = ()) -> Plan:
    """A plan's name or file, with "dotted.key=value" changes to its base config. Raises UserError."""
    document = read_document(find_file(source, PLANS, command="compare"))
    written = document.validated(_Plan)
    _check_tuning(document, written)
    base = _base(document, written, changes)
    plan = Plan(
        name=Path(source).stem,
        base=base,
        **written.model_dump(include={"updates", "equal_cost", "seeds", "tuning_seed"}),
        validation=written.validation or (0.2 if written.tuning else 0.0),
        num_trials=written.num_trials or 0,
        sizes=written.sizes or make_config(nested(base)).evaluation_sizes,
        tuning=written.tuning,
        test=written.test,
        sampling=written.sampling,
        variants={name: _variant(document, written, name, base) for name in written.variants},
        features=_features(document, written),
    )
    for name in plan.variants:
        _check_runs(document, plan, name)
    return plan


def _check_tuning(document: Document, written: _Plan) -> None:
    """Raises UserError where the plan says how to tune and that nothing is tuned, or neither."""
    if written.tuning is not None:
        if written.num_trials is None:
            raise document.error((), "num_trials is missing; the plan digits shows all keys.")
        return
    places = [(key,) for key in ("num_trials", "tuning_seed", "space") if key in written.model_fields_set]
    places += [("variants", name, "space") for name, variant in written.variants.items() if variant.space]
    if places:
        raise document.error(places[0], f"With tuning: none nothing is tried and chosen, so leave {places[0][-1]} out.")
    if len(written.sampling) > 1:
        raise document.error(
            ("sampling",), f"With tuning: none nothing chooses one of {len(written.sampling)} ways to sample; give one."
        )


def _check_runs(document: Document, plan: Plan, name: str) -> None:
    """Raises UserError where the settings of a trial, or of the final runs of a plan without trials, make no config."""
    variant, what = plan.variants[name], ""
    try:
        if plan.tuning is None:
            plan.final(variant, {}, seed=plan.seeds[0])
        for number in range(1, 1 + plan.num_trials):
            what = f"Trial {number} of {name}: "
            plan.trial(variant, plan.parameters(variant, number))
    except UserError as error:
        raise document.error(("variants", name), f"{what}{error}") from None


def _base(document: Document, written: _Plan, changes: Sequence[str]) -> Settings:
    """The base config, flat, with the plan's settings."""
    check_changes(changes)  # is no mistake of the file
    for change in changes:
        if (path := change.partition("=")[0]) in SET_BY_PLAN:
            raise UserError(f"{path} cannot be changed here: {_whose(path)}.")
    try:
        flat = flat_of(load_config(find_base(written.base, Path(document.file).parent), changes))
    except UserError as error:
        raise document.error(("base",), error) from None
    changed = {change.partition("=")[0] for change in changes}
    return flat | {
        path: value for path, value in _known(document, ("settings",), written.settings).items() if path not in changed
    }


def _variant(document: Document, written: _Plan, name: str, base: Settings) -> Variant:
    of_file, place = written.variants[name], ("variants", name)
    settings = _known(document, (*place, "settings"), of_file.settings)
    try:
        config = make_config(nested(base | settings))
    except UserError as error:
        raise document.error(place, error) from None
    if of_file.judged == "bank" and config.start.kind != "persistent":
        raise document.error((*place, "judged"), f"{name} has no bank to be judged by; set start.kind=persistent.")
    spaces = {("space",): written.space, (*place, "space"): of_file.space}
    domains = {
        path: _domain(document, (*where, path), value)
        for where, space in spaces.items()
        for path, value in _known(document, where, space).items()
    }
    return Variant(name=name, settings=settings, space=Space(domains, sizes=config.grids.sizes), judged=of_file.judged)


def _features(document: Document, written: _Plan) -> str | None:
    """The network's name or its file's whole path. It is opened, for training takes hours before it is needed."""
    features = start_run.absolute_features(written.features)
    if features is not None:
        from distmgcd.evaluation.features.networks import open_features  # loads torch

        try:
            open_features(features, option="features: ")
        except UserError as error:
            raise document.error(("features",), error) from None
    return features


def _known(document: Document, place: Place, settings: Settings) -> Settings:
    known = set(setting_paths())
    for path in settings:
        if path not in known:
            raise document.error((*place, path), f"There is no setting {path!r}{suggest_setting(path)}.")
        if path in SET_BY_PLAN:
            raise document.error((*place, path), f"{path} cannot be set here: {_whose(path)}.")
    return settings


def _whose(path: str) -> str:
    return f"a run has it from the plan's {SET_BY_PLAN[path]}".replace("the plan's itself", "the comparison itself")


def _domain(document: Document, place: Place, value: Any) -> Any:
    try:
        return read_domain(value)
    except WrongDomain as error:
        raise document.error(place, f"{place[-1]} {error}.") from None
