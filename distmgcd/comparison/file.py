"""Reading a plan. Every mistake is a UserError that names the file and the line."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from distmgcd import launch
from distmgcd.comparison.plan import Measure, Plan, Sampling, Variant
from distmgcd.config import check_changes, find_base, load_config, make_config, setting_paths, suggest_setting
from distmgcd.config.kinds import Number
from distmgcd.config.words import suggest
from distmgcd.errors import UserError
from distmgcd.sweep.domains import WrongDomain, read_domain
from distmgcd.sweep.marked import Marked, Place, read_marked
from distmgcd.sweep.plan import flat_of, nested
from distmgcd.sweep.space import Space

PLANS = Path(__file__).parent.parent / "presets" / "comparisons"

Count = Annotated[int, Field(ge=1, strict=True)]
Settings = dict[str, Any]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Measure(_Strict):
    samples: Count
    draws: Count = 1


class _Sampling(_Strict):
    times: Count = 1
    start: Literal["climb", "noise"] | None = None


class _Variant(_Strict):
    settings: Settings = {}
    space: Settings = {}
    judged: Literal["samples", "bank"] = "samples"


class _Plan(_Strict):
    base: str
    settings: Settings = {}
    updates: Count
    num_trials: Count
    seeds: list[Annotated[int, Number]] = Field(min_length=1)
    tuning_seed: Annotated[int, Number] = 0
    validation: Annotated[float, Number] = Field(default=0.2, gt=0, lt=1)
    sizes: list[Count] | None = None
    tuning: _Measure
    test: _Measure
    sampling: list[_Sampling] = Field(default=[_Sampling()], min_length=1)
    space: Settings = {}
    variants: dict[str, _Variant] = Field(min_length=1)
    features: str | None = Field(default=None, min_length=1)


def plan_names() -> list[str]:
    return sorted(path.stem for path in PLANS.glob("*.yaml"))


def read_plan(source: str, changes: Sequence[str] = ()) -> Plan:
    """A plan's name or file, with "dotted.key=value" changes to its base config. Raises UserError."""
    marked = read_marked(_found(source))
    written = _validated(marked)
    base = _base(marked, written, changes)
    plan = Plan(
        name=Path(source).stem,
        base=base,
        **written.model_dump(include={"updates", "num_trials", "seeds", "tuning_seed", "validation"}),
        sizes=written.sizes or make_config(nested(base)).evaluation_sizes,
        tuning=Measure(**written.tuning.model_dump()),
        test=Measure(**written.test.model_dump()),
        sampling=[Sampling(**way.model_dump()) for way in written.sampling],
        variants={name: _variant(marked, written, name, base) for name in written.variants},
        features=_features(marked, written),
    )
    for name, variant in plan.variants.items():
        for number in range(1, 1 + plan.num_trials):
            try:
                plan.trial(variant, plan.knobs(variant, number))
            except UserError as error:
                raise marked.error(("variants", name), f"Trial {number} of {name}: {error}") from None
    return plan


def _found(source: str) -> str:
    if source in plan_names():
        return str(PLANS / f"{source}.yaml")
    if Path(source).suffix not in (".yaml", ".yml"):
        raise UserError(
            f"There is no comparison {source!r}{suggest(source, plan_names())}; there are {', '.join(plan_names())}, "
            "and a file must end in .yaml."
        )
    if not Path(source).exists() and Path(source).stem in plan_names():
        raise UserError(f"The plan {source} does not exist; {Path(source).stem} without an ending is the one we have.")
    return source


def _validated(marked: Marked) -> _Plan:
    try:
        return _Plan.model_validate(marked.value)
    except ValidationError as error:
        first = error.errors()[0]
        *_, key = first["loc"] or ("a plan",)
        if first["type"] == "extra_forbidden":
            raise marked.error(first["loc"], f"A plan has no {key!r} here; the plan digits shows all keys.") from None
        if first["type"] == "missing":
            raise marked.error(first["loc"], f"{key} is missing; the plan digits shows all keys.") from None
        text = first["msg"].removeprefix("Input ").removeprefix("Assertion failed, ").rstrip(".")
        raise marked.error(first["loc"], f"{key} {text}, but is {first['input']!r:.60}.") from None


def _base(marked: Marked, written: _Plan, changes: Sequence[str]) -> Settings:
    """The base config, flat, with the plan's settings."""
    check_changes(changes)  # is no mistake of the file
    try:
        flat = flat_of(load_config(find_base(written.base, Path(marked.file).parent), changes))
    except UserError as error:
        raise marked.error(("base",), error) from None
    changed = {change.partition("=")[0] for change in changes}
    return flat | {
        path: value for path, value in _known(marked, ("settings",), written.settings).items() if path not in changed
    }


def _variant(marked: Marked, written: _Plan, name: str, base: Settings) -> Variant:
    of_file, place = written.variants[name], ("variants", name)
    settings = _known(marked, (*place, "settings"), of_file.settings)
    try:
        config = make_config(nested(base | settings))
    except UserError as error:
        raise marked.error(place, error) from None
    if of_file.judged == "bank" and config.start.kind != "persistent":
        raise marked.error((*place, "judged"), f"{name} has no bank to be judged by; set start.kind=persistent.")
    spaces = {("space",): written.space, (*place, "space"): of_file.space}
    domains = {
        path: _domain(marked, (*where, path), value)
        for where, space in spaces.items()
        for path, value in _known(marked, where, space).items()
    }
    return Variant(name=name, settings=settings, space=Space(domains, sizes=config.grids.sizes), judged=of_file.judged)


def _features(marked: Marked, written: _Plan) -> str | None:
    """The network's name or its file's whole path. It is opened, for training takes hours before it is needed."""
    features = launch.absolute_features(written.features)
    if features is not None:
        from distmgcd.evaluate.features import open_features  # loads torch

        try:
            open_features(features, option="features: ")
        except UserError as error:
            raise marked.error(("features",), error) from None
    return features


def _known(marked: Marked, place: Place, settings: Settings) -> Settings:
    known = set(setting_paths())
    for path in settings:
        if path not in known:
            raise marked.error((*place, path), f"There is no setting {path!r}{suggest_setting(path)}.")
    return settings


def _domain(marked: Marked, place: Place, value: Any) -> Any:
    try:
        return read_domain(value)
    except WrongDomain as error:
        raise marked.error(place, f"{place[-1]} {error}.") from None
