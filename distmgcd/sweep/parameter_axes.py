"""The parameters of a sweep as axes: one each, or one a grid for what a trial sets per grid."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distmgcd.sweep import ranking
from distmgcd.sweep.axes import Axis, is_number, make_axis, spans_decades
from distmgcd.sweep.domains import Domain, Interval, IntRange, PerGrid
from distmgcd.sweep.objective import factor_of
from distmgcd.sweep.space import inner
from distmgcd.sweep.sweep_results import SweepResults
from distmgcd.sweep.trial import Trial

_PER_GRID = ("langevin.", "learning.learning_rate")  # lists of these have one value a grid; others are one choice


@dataclass(frozen=True)
class ParameterAxis:
    path: str
    name: str  # in words
    grid: str  # "8x8", or "" for a parameter of all grids
    axis: Axis
    values: Mapping[int, Any]  # {rank of a trial: value}, of the trials that have it


def parameter_axes(results: SweepResults) -> list[ParameterAxis]:
    """Every parameter in which trials differ, in the order of the space."""
    axes = []
    for path, name in names_of(paths_of(results)).items():
        for grid, values in _split(results, path):
            if len({repr(value) for value in values.values()}) > 1:
                axis = make_axis(values.values(), is_log=_is_log(results, path, values))
                axes.append(ParameterAxis(path, name, grid, axis, values))
    return axes


def paths_of(results: SweepResults) -> list[str]:
    """The parameters of the space, then what else trials have."""
    return list(dict.fromkeys([*results.space, *(path for trial in results.trials for path in trial.parameters)]))


def objective_of(trial: Trial, objective: str) -> float | str:
    """As it is shown: scaled, or a word in its place."""
    value = ranking.result(trial)
    if value is not None:
        return value * factor_of(objective)
    return trial.state if trial.state != "finished" else "no number"


def objective_axis(results: SweepResults) -> Axis:
    """Small, which is good, is below; trials without result are on top."""
    values = [objective_of(trial, results.sweep.objective) for trial in results.trials]
    return make_axis(values, is_log=spans_decades(values), slots_last=True)


def names_of(paths: Sequence[str]) -> dict[str, str]:
    """ "step size" for langevin.step_size; whole paths where two would have the same name."""
    short = {path: path.rpartition(".")[2].replace("_", " ") for path in paths}
    taken = Counter(short.values())
    return {path: name if taken[name] == 1 else path for path, name in short.items()}


def _split(results: SweepResults, path: str) -> Iterator[tuple[str, dict[int, Any]]]:
    """(grid, {rank: value}) of every axis that a parameter needs."""
    values = {rank: trial.parameters[path] for rank, trial in enumerate(results.trials) if path in trial.parameters}
    if not path.startswith(_PER_GRID) or not any(isinstance(value, list | tuple) for value in values.values()):
        yield "", values
        return
    grids: dict[str, dict[int, Any]] = {}
    for rank, value in values.items():
        for size, part in _by_grid(value, _sizes_of(results.trials[rank])):
            grids.setdefault(size, {})[rank] = part
    for size in sorted(grids, key=lambda text: int(re.sub(r"\D", "", text) or 0)):
        yield f"{size}x{size}" if size.isdecimal() else size, grids[size]


def _sizes_of(trial: Trial) -> list[str]:
    """The grids of a trial, coarse to fine, as text."""
    return [str(size) for size in trial.config.grids.sizes] if trial.config else sorted(trial.swd, key=float)


def _by_grid(value: Any, sizes: list[str]) -> list[tuple[str, Any]]:
    """One value serves every grid; a list whose grids are not known counts them."""
    if not isinstance(value, list | tuple):
        return [(size, value) for size in sizes]
    if len(value) != len(sizes):
        sizes = [f"grid {number}" for number, _ in enumerate(value, start=1)]
    return list(zip(sizes, value, strict=True))


def _is_log(results: SweepResults, path: str, values: Mapping[int, Any]) -> bool:
    """As the space has it, by logarithms or not; choices go by how far apart they are."""
    written = [branch[path] for branch in results.sweep.space.branches() if path in branch]
    domains = [inner(domain) for domain in written if isinstance(domain, Domain | PerGrid)]
    if any(isinstance(domain, Interval) and domain.log for domain in domains):
        return all(value > 0 for value in values.values() if is_number(value))
    return not any(isinstance(domain, Interval | IntRange) for domain in domains) and spans_decades(values.values())
