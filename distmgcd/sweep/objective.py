"""What trials are judged by: the names of objectives, how they are read off a run's log, and how they are said.

An objective is FAMILY, the mean over what was measured of it, or FAMILY/ONE, one of them: swd, swd/16, fd. A record of
an evaluation in log/metrics.jsonl has {FAMILY: {ONE: value}}. Another measure takes a line in FAMILIES, fields of a
Trial, and that the loop writes it into its records and result.json.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distmgcd.runs import retention
from distmgcd.runs.retention import family_of
from distmgcd.sweep.trial import Trial


@dataclass(frozen=True)
class Family:
    words: str
    factor: float  # what it is multiplied by where it is shown


FAMILIES = {
    "swd": Family("sliced Wasserstein distance", 1000.0),
    "fd": Family("Frechet distance of samples at the finest grid", 1.0),
}


def names(sizes: Sequence[int]) -> list[str]:
    """Every objective that trials which are measured at these sizes have."""
    return ["swd", *(f"swd/{size}" for size in sizes), "fd"]


def value_of(record: Mapping[str, Any], objective: str) -> float | None:
    """Of a record of the log; None if it is no evaluation, or has not measured this."""
    return retention.score(record.get(family_of(objective)), objective)


def measured_of(trial: Trial, family: str) -> tuple[Mapping[str, float], Mapping[str, float]]:
    """{ONE: value} and {ONE: standard deviation over draws} of a trial, the newest."""
    known = {"swd": (trial.swd, trial.swd_spread), "fd": (trial.fd, trial.fd_spread)}
    return known.get(family, ({}, {}))


def objective_in_words(objective: str, trials: Iterable[Trial] = ()) -> str:
    """ "1000 x sliced Wasserstein distance, mean over grids" for swd.

    trials: what was measured, where its name depends on that: "FD-EfficientNetLite0, Frechet distance ...".
    """
    family = FAMILIES.get(family_of(objective))
    if family is None:  # of another version
        return objective
    if objective == "fd":
        return f"{label_of(objective, trials)}, {family.words}"
    one = objective.partition("/")[2]
    return f"{_scaled(family)}{family.words}" + (f" at {one}x{one}" if one else ", mean over grids")


def label_of(objective: str, trials: Iterable[Trial] = ()) -> str:
    """The same in few letters: "1000 x swd", "FD-EfficientNetLite0"."""
    family = FAMILIES.get(family_of(objective))
    if objective == "fd":  # a distance carries the name of its features
        return ", ".join(dict.fromkeys(name for trial in trials for name in trial.fd)) or "FD"
    return f"{_scaled(family)}{objective}" if family else objective


def factor_of(objective: str) -> float:
    """What an objective is multiplied by where it is shown."""
    family = FAMILIES.get(family_of(objective))
    return family.factor if family else 1.0


def _scaled(family: Family) -> str:
    return "" if family.factor == 1.0 else f"{family.factor:g} x "
