"""What values a parameter may take: one class a form, as {form: arguments} in a sweep file."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from distmgcd.config.kinds import suggest

_FACTORS = (0.8, 1.25)  # by which population-based training moves a number
_SIGNIFICANT = 6  # digits of a drawn number, so that files read well


class WrongDomain(Exception):
    """A domain that is none. Its text says of what and why."""


@dataclass(frozen=True)
class Interval:
    """Any number from low to high, all alike likely, or their logarithms."""

    low: float
    high: float
    log: bool

    def sample(self, rng: Random) -> float:
        if not self.log:
            return self.rounded(rng.uniform(self.low, self.high))
        return self.rounded(math.exp(rng.uniform(math.log(self.low), math.log(self.high))))

    def moved(self, value: float, rng: Random) -> float:
        return self.rounded(value * rng.choice(_FACTORS))

    def rounded(self, value: float) -> float:
        return min(self.high, max(self.low, float(f"{value:.{_SIGNIFICANT}g}")))

    def examples(self) -> list[float]:
        return [self.low, self.high]

    def values(self) -> None:
        """There are too many to list."""

    def form(self) -> dict[str, Any]:
        return {"loguniform" if self.log else "uniform": [self.low, self.high]}

    def words(self) -> str:
        return f"{self.low:g} to {self.high:g}{', by its logarithm' if self.log else ''}"


@dataclass(frozen=True)
class IntRange:
    """low, low + step, ... up to high."""

    low: int
    high: int
    step: int

    def sample(self, rng: Random) -> int:
        return rng.choice(self.values())

    def moved(self, value: int, rng: Random) -> int:
        factor = rng.choice(_FACTORS)
        steps = max(1, round(abs(value * factor - value) / self.step))
        return min(self.values()[-1], max(self.low, value + self.step * (steps if factor > 1 else -steps)))

    def examples(self) -> list[int]:
        return [self.low, self.values()[-1]]

    def values(self) -> list[int]:
        return list(range(self.low, self.high + 1, self.step))

    def form(self) -> dict[str, Any]:
        return {"int": [self.low, self.high, self.step]}

    def words(self) -> str:
        return f"{self.low} to {self.high}{f' in steps of {self.step}' if self.step > 1 else ''}"


@dataclass(frozen=True)
class Choice:
    """One of these. each: each in turn over the trials, in place of one by chance."""

    options: tuple[Any, ...]
    each: bool

    def sample(self, rng: Random) -> Any:
        return rng.choice(self.options)

    def moved(self, value: Any, rng: Random) -> Any:
        """A neighbour: options are thought to be in order."""
        position = self.options.index(value) + rng.choice((-1, 1))
        return self.options[min(len(self.options) - 1, max(0, position))]

    def examples(self) -> list[Any]:
        return list(self.options)

    def values(self) -> list[Any]:
        return list(self.options)

    def form(self) -> dict[str, Any]:
        return {"grid" if self.each else "choice": list(self.options)}

    def words(self) -> str:
        return f"{'each' if self.each else 'one'} of {', '.join(map(str, self.options))}"


Domain = Interval | IntRange | Choice


@dataclass(frozen=True)
class PerGrid:
    """A draw of its own for every grid of the trial's schedule."""

    domain: Domain

    def form(self) -> dict[str, Any]:
        return {"per_grid": self.domain.form()}

    def words(self) -> str:
        return f"for every grid {self.domain.words()}"


def is_domain(value: Any) -> bool:
    """Whether it is written like one: no setting of a config is a mapping."""
    return isinstance(value, dict)


def read_domain(value: Any) -> Domain | PerGrid:
    """From {"loguniform": [0.3, 3]} and the like. Raises WrongDomain."""
    if not is_domain(value) or len(value) != 1:
        raise WrongDomain(f"must be one of {_EXAMPLES}, but is {value!r}")
    ((form, arguments),) = value.items()
    if form not in _READERS:
        raise WrongDomain(f"has no form {form!r}{suggest(str(form), list(_READERS))}; write one of {_EXAMPLES}")
    return _READERS[form](arguments)


def plain_number(value: Any) -> Any:
    """YAML takes 1e-3 for text, for it has no point: the number is meant. Anything else as it is."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return [plain_number(item) for item in value] if isinstance(value, list) else value


_EXAMPLES = (
    "{uniform: [0.5, 2]}, {loguniform: [0.001, 1]}, {int: [5, 30, 5]}, {choice: [1, 2]}, {grid: [1, 2]} and "
    "{per_grid: {uniform: [0.5, 2]}}"
)


def _interval(form: str, arguments: Any) -> Interval:
    low, high = _numbers(form, arguments, (2,), "[lowest, highest]")
    if not low < high:
        raise WrongDomain(f"{form} must go from low to high, but goes from {low:g} to {high:g}")
    if form == "loguniform" and low <= 0:
        raise WrongDomain(f"loguniform must begin above 0, but begins at {low:g}")
    return Interval(low, high, form == "loguniform")


def _whole(arguments: Any) -> IntRange:
    numbers = _numbers("int", arguments, (2, 3), "[lowest, highest] or [lowest, highest, step]")
    if any(number != int(number) for number in numbers):
        raise WrongDomain(f"int must have whole numbers, but has {arguments!r}")
    low, high, step = map(int, (*numbers, 1)[:3])
    if low > high or step < 1:
        raise WrongDomain(f"int must go from low to high in steps of 1 or more, but is {arguments!r}")
    return IntRange(low, high, step)


def _choice(form: str, arguments: Any) -> Choice:
    if not isinstance(arguments, list) or not arguments:
        raise WrongDomain(f"{form} must be a list of at least one value, but is {arguments!r}")
    return Choice(tuple(plain_number(option) for option in arguments), form == "grid")


def _per_grid(arguments: Any) -> PerGrid:
    domain = read_domain(arguments)
    if isinstance(domain, PerGrid):
        raise WrongDomain("per_grid must hold a form such as {uniform: [0.5, 2]}, but holds another per_grid")
    return PerGrid(domain)


def _numbers(form: str, arguments: Any, lengths: Sequence[int], shape: str) -> list[float]:
    numbers = plain_number(arguments)
    if not isinstance(numbers, list) or len(numbers) not in lengths or not all(map(_is_finite, numbers)):
        raise WrongDomain(f"{form} must be {shape}, but is {arguments!r}")
    return numbers


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


_READERS: dict[str, Callable[[Any], Domain | PerGrid]] = {
    "uniform": lambda arguments: _interval("uniform", arguments),
    "loguniform": lambda arguments: _interval("loguniform", arguments),
    "int": _whole,
    "choice": lambda arguments: _choice("choice", arguments),
    "grid": lambda arguments: _choice("grid", arguments),
    "per_grid": _per_grid,
}
