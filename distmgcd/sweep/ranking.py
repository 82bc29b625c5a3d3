"""Which trials are the best, which trade quality for cost, and what became of all of them."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable

from distmgcd.sweep.objective import factor_of, family_of, measured_of
from distmgcd.sweep.trial import State, Trial

STATES: tuple[State, ...] = ("finished", "pruned", "running", "stopped", "waiting", "diverged", "failed")
WITHOUT_RESULT: tuple[State, ...] = ("diverged", "failed", "waiting")


def result(trial: Trial) -> float | None:
    """Its objective, if it counts as one: a trial that diverged or failed has none, whatever it measured before."""
    if trial.state in WITHOUT_RESULT or trial.objective is None or not math.isfinite(trial.objective):
        return None
    return trial.objective


def ranked(trials: Iterable[Trial]) -> list[Trial]:
    """Best first. Trials that came to their end stand before those that were cut short, those without result last."""

    def rank(trial: Trial) -> tuple[int, float, int, str]:
        value = result(trial)
        stage = 2 if value is None else 0 if trial.state == "finished" else 1
        return stage, value or 0.0, STATES.index(trial.state), trial.name

    return sorted(trials, key=rank)


def best(trials: Iterable[Trial]) -> Trial | None:
    """The best trial of a sweep, everywhere: of those that came to their end, or, where none did, of the others."""
    return next(iter(the_best(trials, 1)), None)


def the_best(trials: Iterable[Trial], num: int) -> list[Trial]:
    """At most so many trials that have a result, best first; of those that were cut short only if none ended."""
    found = [trial for trial in ranked(trials) if result(trial) is not None]
    ended = [trial for trial in found if trial.state == "finished"]
    return (ended or found)[:num]


def pareto_front(trials: Iterable[Trial], cost: Callable[[Trial], float | None]) -> list[Trial]:
    """The finished trials that no other one beats in objective or cost without being worse in the other.

    From the cheapest to the best. cost: smaller is better; None leaves a trial out.
    """
    candidates = [
        (price, value, trial)
        for trial in trials
        if trial.state == "finished" and (value := result(trial)) is not None and (price := cost(trial)) is not None
    ]
    front: list[tuple[float, float, Trial]] = []
    for price, value, trial in sorted(candidates, key=lambda found: found[:2]):
        if not front or value < front[-1][1] or (price, value) == front[-1][:2]:
            front.append((price, value, trial))
    return [trial for _, _, trial in front]


def gradient_evaluations(trial: Trial) -> float | None:
    return trial.gradient_evaluations or None


def slowness(trial: Trial) -> float | None:
    """A cost that falls as the images per second of training rise."""
    return None if trial.images_per_s is None else -trial.images_per_s


def counts(trials: Iterable[Trial]) -> dict[State, int]:
    """How many trials are in each state, those that occur."""
    found = Counter(trial.state for trial in trials)
    return {state: found[state] for state in STATES if found[state]}


def reasons(trials: Iterable[Trial]) -> list[tuple[State, str, int]]:
    """(state, an example, how many) of every kind of reason for an early end, the most frequent first.

    Reasons that differ only in their numbers are of a kind.
    """
    kinds: dict[tuple[State, str], list[str]] = {}
    for trial in trials:
        if trial.state in ("pruned", "stopped", "diverged", "failed"):
            reason = trial.reason or "No reason is known."
            kinds.setdefault((trial.state, _kind_of(reason)), []).append(reason)
    found: list[tuple[State, str, int]] = [(state, why[0], len(why)) for (state, _), why in kinds.items()]
    return sorted(found, key=lambda row: (STATES.index(row[0]), -row[2]))


def failures(trials: Iterable[Trial]) -> list[tuple[str, int, list[str]]]:
    """(an example, how many, the trials' names) of every kind of failure that trials went on after."""
    kinds: dict[str, list[tuple[str, str]]] = {}
    for trial in trials:
        for why in trial.failures:
            kinds.setdefault(_kind_of(why), []).append((why, trial.name))
    found = [(events[0][0], len(events), sorted({name for _, name in events})) for events in kinds.values()]
    return sorted(found, key=lambda row: -row[1])


def _kind_of(reason: str) -> str:
    return re.sub(r"[-+]?(\d[\d.,]*(e[-+]?\d+)?|\binf\b|\bnan\b)", "#", reason)


def spread_of(trial: Trial, objective: str) -> float | None:
    """The standard deviation of the objective over draws of samples, unscaled; of a mean over grids a bound on it.

    The draws of all grids are of the same samples, so the deviation of the mean is at most the mean of deviations.
    """
    _, found = measured_of(trial, family_of(objective))
    one = objective.partition("/")[2]
    spreads = [found.get(one)] if one else list(found.values())
    known = [spread for spread in spreads if spread is not None]
    return sum(known) / len(known) if known and len(known) == len(spreads) else None


def in_words(value: float | None, objective: str) -> str:
    """An objective as it is shown, without its spread."""
    if value is None:
        return "-"
    factor = factor_of(objective)
    if factor != 1.0:
        return f"{factor * value:.1f}"
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"


def with_spread(trial: Trial, objective: str) -> str:
    """ "38.2 ± 1.4"."""
    return value_in_words(trial.objective, spread_of(trial, objective), objective)


def value_in_words(value: float | None, spread: float | None, objective: str) -> str:
    """As it is shown, with its deviation over draws where there are several."""
    text = in_words(value, objective)
    if value is None or not spread:
        return text
    return f"{text} ± {in_words(spread, objective) if factor_of(objective) != 1.0 else f'{spread:.3g}'}"


def distance_in_words(value: float | None, spread: float | None) -> str:
    """Of one grid, times 1000."""
    return value_in_words(value, spread, "swd")
