"""Reading a sweep file. Every mistake is a UserError that names the file and the line."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from distmgcd.config import Config, check_changes, find_base, load_config, setting_paths, suggest_setting
from distmgcd.config.kinds import suggest
from distmgcd.config.marked_yaml import Marked, Place, read_marked
from distmgcd.config.reading import PRESETS
from distmgcd.errors import UserError
from distmgcd.evaluation.features.networks import DEFAULT, NAMES
from distmgcd.sweep import plan
from distmgcd.sweep.check import check
from distmgcd.sweep.domains import PerGrid, WrongDomain, is_domain, plain_number, read_domain
from distmgcd.sweep.objective import names as objective_names
from distmgcd.sweep.plan import Budget, Scheduler, Sweep, flat_of, keys_of
from distmgcd.sweep.space import ONE_OF, SIZES, Space, grid_points

SWEEPS = PRESETS / "sweeps"  # a link to tune_configs in a checkout, a folder where the package is installed
OWN_BASE = "settings of its own"  # the name of a base that is neither a preset nor a file

_KEYS = {
    "base": "a preset, a config file, or settings",
    "settings": "changes to the base: {dotted path: value}",
    "objective": "swd, swd/16, fd, {metric: swd, sizes: [4, 16]}, or {metric: fd, features: efficientnet-lite0}",
    "budget": "{updates: 200, warmup: 20, evaluations: 4, samples: 500, draws: 1}",
    "scheduler": "asha, pbt or none, or {kind: asha, grace: 1, reduction: 3}",
    "search": "random, grid or tpe",
    "num_trials": "a whole number from 1 up",
    "seed": "a whole number from 0 up",
    "workers_per_trial": "a whole number from 0 up",
    "validation": "a fraction from 0 to below 1",
    "space": "{dotted path: domain}",
}
_PER_GRID = ("langevin.", "learning.learning_rate")  # settings that take one value per grid


def sweep_names() -> list[str]:
    return sorted(path.stem for path in SWEEPS.glob("*.yaml"))


def read_sweep(source: str, changes: Sequence[str] = (), *, num_trials: int | None = None) -> Sweep:
    """A sweep's name or file, with "dotted.key=value" changes to its base config. Raises UserError.

    num_trials takes the place of what the file says.
    """
    marked = read_marked(_file_of(source))
    top = _mapping(marked, (), _KEYS)
    for key in ("base", "budget", "space"):
        if key not in top:
            raise marked.error((), f"{key} is missing; add `{key}: {_KEYS[key]}`.")
    base = _base(marked, changes)
    space = _space(marked, base)
    search = _one_of(marked, ("search",), ("random", "grid", "tpe"), default="random")
    sweep = Sweep(
        name=Path(source).stem,
        base_name=top["base"] if isinstance(top["base"], str) else OWN_BASE,
        base=flat_of(base),
        **_objective(marked, base, space),
        budget=_budget(marked),
        scheduler=_scheduler(marked),
        search=search,
        num_trials=num_trials or _whole(marked, ("num_trials",), least=1, default=10 if search != "grid" else 0),
        seed=_whole(marked, ("seed",), default=0),
        workers_per_trial=_whole(marked, ("workers_per_trial",), default=0),
        validation=_number(marked, ("validation",), 0.0, 1.0, default=Sweep.validation),
        space=space,
    )
    check(sweep, marked)
    num_points = sum(1 for _ in grid_points(space)) if search == "grid" else sweep.num_trials
    return replace(sweep, num_trials=min(sweep.num_trials or num_points, num_points))


def _file_of(source: str) -> str:
    if source in sweep_names():
        return str(SWEEPS / f"{source}.yaml")
    path = Path(source)
    if path.suffix not in (".yaml", ".yml"):
        raise UserError(
            f"There is no sweep {source!r}{suggest(source, sweep_names())}; there are {', '.join(sweep_names())}, and "
            "a file must end in .yaml."
        )
    if not path.exists() and path.stem in sweep_names():
        raise UserError(
            f"The sweep file {source} does not exist; `distmgcd tune {path.stem}` runs the one that we have."
        )
    return source


def _base(marked: Marked, changes: Sequence[str]) -> Config:
    base, settings = marked.value["base"], _mapping(marked, ("settings",), default={})
    for path in settings:
        if path not in set(setting_paths()):
            raise marked.error(("settings", path), _no_setting(path))
    check_changes(changes)  # is no mistake of the file
    try:
        return load_config(_found(marked, base), changes, settings={k: plain_number(v) for k, v in settings.items()})
    except UserError as error:
        raise marked.error(("settings" if settings else "base",), error) from None


def _found(marked: Marked, base: Any) -> str | dict[str, Any]:
    """A preset, a file, or settings."""
    if not isinstance(base, str | dict):
        raise marked.error(("base",), f"base must be {_KEYS['base']}, but is {base!r}; try `base: digits`.")
    return base if isinstance(base, dict) else find_base(base, Path(marked.file).parent)


def _space(marked: Marked, base: Config) -> Space:
    written = _mapping(marked, ("space",))
    bundles = written.get(ONE_OF, [])
    if ONE_OF in written and (not isinstance(bundles, list) or not bundles):
        raise marked.error(("space", ONE_OF), f"one_of must be a list of bundles of settings, but is {bundles!r}.")
    common = {path: _domain(marked, ("space", path), path, value) for path, value in written.items() if path != ONE_OF}
    one_of = tuple(_bundle(marked, ("space", ONE_OF, n)) for n in range(len(bundles)))
    for n, bundle in enumerate(one_of):
        if twice := sorted(bundle.keys() & common.keys()):
            raise marked.error(("space", ONE_OF, n, twice[0]), f"{twice[0]} stands in the space beside one_of, too.")
    if not common and not one_of:
        raise marked.error(("space",), "The space is empty; name a setting, say langevin.step_size: {uniform: [1, 2]}.")
    return Space(common, one_of, sizes=base.grids.sizes)


def _bundle(marked: Marked, place: Place) -> dict[str, Any]:
    return {
        path: _domain(marked, (*place, path), path, value) if is_domain(value) else plain_number(value)
        for path, value in _mapping(marked, place).items()
        if _is_setting(marked, (*place, path), path)
    }


def _domain(marked: Marked, place: Place, path: str, value: Any) -> Any:
    _is_setting(marked, place, path)
    try:
        domain = read_domain(value)
    except WrongDomain as error:
        raise marked.error(place, f"{path} {error}.") from None
    if isinstance(domain, PerGrid) and not path.startswith(_PER_GRID):
        raise marked.error(place, f"{path} has one value for all grids; leave per_grid out.")
    return domain


def _is_setting(marked: Marked, place: Place, path: str) -> bool:
    if path not in set(setting_paths()):
        raise marked.error(place, _no_setting(path))
    if path in plan.SET_BY_SWEEP:
        raise marked.error(place, f"{path} is no parameter, for the sweep sets it by {plan.SET_BY_SWEEP[path]}.")
    return True


def _no_setting(path: object) -> str:
    return f"There is no setting {str(path)!r}{suggest_setting(str(path))}; `distmgcd config digits` shows them all."


def _objective(marked: Marked, base: Config, space: Space) -> dict[str, Any]:
    value = marked.value.get("objective", "swd")
    written = value if isinstance(value, dict) else {"metric": value}
    if unknown := [key for key in written if key not in ("metric", "sizes", "features")]:
        raise marked.error(
            ("objective", unknown[0]), f"objective has metric, sizes and features, but no {unknown[0]!r}."
        )
    varies = any(SIZES in branch for branch in space.branches())
    sizes = written.get("sizes")
    if sizes is None and varies:
        raise marked.error(
            ("objective",),
            "objective must name the sizes at which schedules are compared; write {metric: swd, sizes: "
            f"{list(base.grids.sizes)}}}, say.",
        )
    if sizes is None:
        sizes = list(base.evaluation_sizes)
    if not isinstance(sizes, list) or not sizes or not all(map(_is_size, sizes)):
        raise marked.error(("objective", "sizes"), f"sizes must be a list of sizes such as [4, 16], but is {sizes!r}.")
    metric, known = written.get("metric", "swd"), objective_names(sizes)
    if metric not in known:
        raise marked.error(
            ("objective", "metric"),
            f"objective must be one of {', '.join(known)}, but is {metric!r}{suggest(str(metric), known)}; nothing "
            "else is measured while trials train.",
        )
    features = written.get("features", base.evaluate.features or (DEFAULT if metric == "fd" else None))
    if not isinstance(features, str | None) or features == "" or (metric == "fd" and not features):
        raise marked.error(
            ("objective", "features"),
            f"features must be one of {', '.join(NAMES)}, or a weight file, but is {features!r}.",
        )
    return {"objective": metric, "sizes": tuple(sizes), "features": features}


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _budget(marked: Marked) -> Budget:
    _mapping(marked, ("budget",), ("updates", "warmup", "evaluations", "samples", "draws"))
    updates = _whole(marked, ("budget", "updates"), least=1)
    evaluations = _whole(marked, ("budget", "evaluations"), least=1, default=1)
    if updates % evaluations:
        raise marked.error(
            ("budget", "evaluations"),
            f"evaluations must divide updates, but {evaluations} does not divide {updates}; try "
            f"{max(n for n in range(1, evaluations) if updates % n == 0)}.",
        )
    return Budget(
        updates=updates,
        warmup=_warmup(marked),
        evaluations=evaluations,
        samples=_whole(marked, ("budget", "samples"), least=2),
        draws=_whole(marked, ("budget", "draws"), least=1, default=1),
    )


def _warmup(marked: Marked) -> int | None:
    return None if marked.value["budget"].get("warmup") is None else _whole(marked, ("budget", "warmup"))


def _scheduler(marked: Marked) -> Scheduler:
    place: Place = ("scheduler",)
    if not isinstance(marked.value.get("scheduler", "none"), dict):
        return Scheduler(kind=_one_of(marked, place, ("asha", "pbt", "none"), default="none"))
    kind = _one_of(marked, (*place, "kind"), ("asha", "pbt", "none"))
    _mapping(marked, place, ("kind", *keys_of(kind)))
    whole = {"grace": 1, "reduction": 2, "every": 1}  # and the least of each
    fractions = {"quantile": 0.5, "resample": 1.0}  # and the most
    found: dict[str, Any] = {}
    for key in keys_of(kind):
        default, inside = getattr(Scheduler, key), (*place, key)
        if key in whole:
            found[key] = _whole(marked, inside, least=whole[key], default=default)
        else:
            found[key] = _number(marked, inside, 0.0, fractions[key], default=default)
    return Scheduler(kind=kind, **found)


def _mapping(marked: Marked, place: Place, keys: Any = None, default: Any = None) -> dict[str, Any]:
    """What stands at a place, which must be a mapping, of these keys if they are given."""
    value, name = _at(marked, place, default), str(place[-1]) if place else "a sweep file"
    if not isinstance(value, dict):
        example = ", ".join(keys or ()) or _KEYS.get(name, "{dotted path: value}")
        raise marked.error(place, f"{name} must hold {example}, but holds {value!r:.40}.")
    for key in value:
        if keys is not None and key not in keys:
            raise marked.error(
                (*place, key), f"{name} has no {str(key)!r}{suggest(str(key), list(keys))}; it has {', '.join(keys)}."
            )
    return value


def _at(marked: Marked, place: Place, default: Any) -> Any:
    value = marked.value
    for key in place:
        if isinstance(value, dict) and key not in value:
            return default
        value = value[key]
    return value


def _one_of(marked: Marked, place: Place, known: Sequence[str], default: str | None = None) -> Any:
    value = _at(marked, place, default)
    value = "none" if value is None and "none" in known else value
    if value not in known:
        raise marked.error(place, f"{place[-1]} must be one of {', '.join(known)}, but is {value!r}.")
    return value


def _whole(marked: Marked, place: Place, *, least: int = 0, default: int | None = None) -> int:
    value = _at(marked, place, default)
    if value == default and default is not None:
        return value
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise marked.error(place, f"{place[-1]} must be a whole number from {least} up, but is {value!r}.")
    return value


def _number(marked: Marked, place: Place, low: float, high: float, *, default: float) -> float:
    value = plain_number(_at(marked, place, default))
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
        raise marked.error(place, f"{place[-1]} must be a number from {low:g} to {high:g}, but is {value!r}.")
    return float(value)
