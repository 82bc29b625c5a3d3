"""Reading a sweep file. Every mistake is a UserError that names the file and the line."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationInfo, field_validator

from distmgcd.config import Config, check_changes, find_base, load_config, setting_paths, suggest_setting
from distmgcd.config.document import Document, Place, Strict, find_file, read_document
from distmgcd.config.kinds import Fraction, NonNegativeInt, PositiveInt, Rule, suggest
from distmgcd.config.reading import PRESETS
from distmgcd.errors import UserError
from distmgcd.evaluation.features.networks import DEFAULT, NAMES
from distmgcd.sweep import plan
from distmgcd.sweep.check import check
from distmgcd.sweep.domains import PerGrid, WrongDomain, is_domain, plain_number, read_domain
from distmgcd.sweep.objective import names as objective_names
from distmgcd.sweep.plan import Budget, Scheduler, Search, Sweep, flat_of
from distmgcd.sweep.space import ONE_OF, SIZES, Space, grid_points

SWEEPS = PRESETS / "sweeps"  # a link to tune_configs in a checkout, a folder where the package is installed
OWN_BASE = "settings of its own"  # the name of a base that is neither a preset nor a file

_Settings = Annotated[dict[str, Any], Rule("settings, as {dotted path: value}")]


class _Objective(Strict):
    metric: str = "swd"
    sizes: Annotated[list[PositiveInt], Field(min_length=1), Rule("a list of sizes such as [4, 16]")] | None = None
    features: Annotated[str, Field(min_length=1), Rule(f"one of {', '.join(NAMES)}, or a weight file")] | None = None


class _File(Strict):
    base: Annotated[str | dict[str, Any], Rule("a preset, a config file, or settings")]
    settings: _Settings = {}
    objective: _Objective = _Objective()
    budget: Budget
    scheduler: Scheduler = Scheduler()
    search: Search = "random"
    num_trials: PositiveInt | None = None
    seed: NonNegativeInt = 0
    workers_per_trial: NonNegativeInt = 0
    validation: Fraction = Sweep.validation
    space: Annotated[dict[str, Any], Rule("settings with what they may be, as {langevin.step_size: {uniform: [1, 2]}}")]

    @field_validator("objective", "scheduler", mode="before")
    @classmethod
    def _name_alone(cls, value: Any, field: ValidationInfo) -> Any:
        """A metric, or a kind of scheduler, without its settings."""
        if isinstance(value, dict | Strict):
            return value
        return {"metric": value} if field.field_name == "objective" else {"kind": value or "none"}


_PER_GRID = ("langevin.", "learning.learning_rate")  # settings that take one value per grid


def sweep_names() -> list[str]:
    return sorted(path.stem for path in SWEEPS.glob("*.yaml"))


def read_sweep(source: str, changes: Sequence[str] = (), *, num_trials: int | None = None) -> Sweep:
    """A sweep's name or file, with "dotted.key=value" changes to its base config. Raises UserError.

    num_trials takes the place of what the file says.
    """
    document = read_document(find_file(source, SWEEPS, command="tune"))
    written = document.validated(_File)
    base = _base(document, written, changes)
    space = _space(document, written, base)
    sweep = Sweep(
        name=Path(source).stem,
        base_name=written.base if isinstance(written.base, str) else OWN_BASE,
        base=flat_of(base),
        **_objective(document, written.objective, base, space),
        budget=written.budget,
        scheduler=written.scheduler,
        search=written.search,
        num_trials=num_trials or written.num_trials or (10 if written.search != "grid" else 0),
        seed=written.seed,
        workers_per_trial=written.workers_per_trial,
        validation=written.validation,
        space=space,
    )
    check(sweep, document)
    num_points = sum(1 for _ in grid_points(space)) if written.search == "grid" else sweep.num_trials
    return replace(sweep, num_trials=min(sweep.num_trials or num_points, num_points))


def _base(document: Document, written: _File, changes: Sequence[str]) -> Config:
    for path in written.settings:
        if path not in set(setting_paths()):
            raise document.error(("settings", path), _no_setting(path))
    check_changes(changes)  # is no mistake of the file
    base = written.base if isinstance(written.base, dict) else find_base(written.base, Path(document.file).parent)
    settings = {path: plain_number(value) for path, value in written.settings.items()}
    try:
        return load_config(base, changes, settings=settings)
    except UserError as error:
        raise document.error(("settings" if settings else "base",), error) from None


def _space(document: Document, file: _File, base: Config) -> Space:
    written = file.space
    bundles = written.get(ONE_OF, [])
    if ONE_OF in written and (not isinstance(bundles, list) or not bundles):
        raise document.error(("space", ONE_OF), f"one_of must be a list of bundles of settings, but is {bundles!r}.")
    common = {
        path: _domain(document, ("space", path), path, value) for path, value in written.items() if path != ONE_OF
    }
    one_of = tuple(_bundle(document, ("space", ONE_OF, n), bundle) for n, bundle in enumerate(bundles))
    for n, bundle in enumerate(one_of):
        if twice := sorted(bundle.keys() & common.keys()):
            raise document.error(("space", ONE_OF, n, twice[0]), f"{twice[0]} stands in the space beside one_of, too.")
    if not common and not one_of:
        raise document.error(
            ("space",), "The space is empty; name a setting, say langevin.step_size: {uniform: [1, 2]}."
        )
    return Space(common, one_of, sizes=base.grids.sizes)


def _bundle(document: Document, place: Place, bundle: Any) -> dict[str, Any]:
    if not isinstance(bundle, dict):
        raise document.error(place, f"one_of must hold bundles as {{dotted path: value}}, but holds {bundle!r:.40}.")
    return {
        path: _domain(document, (*place, path), path, value) if is_domain(value) else plain_number(value)
        for path, value in bundle.items()
        if _is_setting(document, (*place, path), path)
    }


def _domain(document: Document, place: Place, path: str, value: Any) -> Any:
    _is_setting(document, place, path)
    try:
        domain = read_domain(value)
    except WrongDomain as error:
        raise document.error(place, f"{path} {error}.") from None
    if isinstance(domain, PerGrid) and not path.startswith(_PER_GRID):
        raise document.error(place, f"{path} has one value for all grids; leave per_grid out.")
    return domain


def _is_setting(document: Document, place: Place, path: str) -> bool:
    if path not in set(setting_paths()):
        raise document.error(place, _no_setting(path))
    if path in plan.SET_BY_SWEEP:
        raise document.error(place, f"{path} is no parameter, for the sweep sets it by {plan.SET_BY_SWEEP[path]}.")
    return True


def _no_setting(path: object) -> str:
    return f"There is no setting {str(path)!r}{suggest_setting(str(path))}; `distmgcd config digits` shows them all."


def _objective(document: Document, written: _Objective, base: Config, space: Space) -> dict[str, Any]:
    if written.sizes is None and any(SIZES in branch for branch in space.branches()):
        raise document.error(
            ("objective",),
            "objective must name the sizes at which schedules are compared; write {metric: swd, sizes: "
            f"{list(base.grids.sizes)}}}, say.",
        )
    metric, sizes = written.metric, tuple(written.sizes or base.evaluation_sizes)
    known = objective_names(sizes)
    if metric not in known:
        raise document.error(
            ("objective", "metric"),
            f"objective must be one of {', '.join(known)}, but is {metric!r}{suggest(metric, known)}; nothing else is "
            "measured while trials train.",
        )
    features = written.features
    if "features" not in written.model_fields_set:
        features = base.evaluate.features or (DEFAULT if metric == "fd" else None)
    elif metric == "fd" and features is None:
        raise document.error(
            ("objective", "features"), f"features must be one of {', '.join(NAMES)}, or a weight file, but is None."
        )
    return {"objective": metric, "sizes": sizes, "features": features}
