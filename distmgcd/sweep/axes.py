"""Axes: from the value of a setting, whatever it is, to a place from 0 to 1, and where the ticks go.

Numbers share a linear or a logarithmic stretch. What is no finite number, a word, null, a list or inf, has a slot of
its own beside them, so that nothing is left out of a picture. An axis without numbers is slots only.
"""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

_PADDING = 0.07  # of the stretch of numbers, at either end
_SLOT = 0.11  # of an axis, for each slot beside numbers
_MOST_SLOTS = 0.4  # of an axis, if there are numbers
_MOST_TICKS = 6


@dataclass(frozen=True)
class Axis:
    """place(value) is where it stands: 0 is left or below, 1 is right or above."""

    is_log: bool
    low: float  # of the stretch, padded; in log10 if is_log
    high: float
    numbers: tuple[float, float]  # (from, to) in places; equal if there are no numbers
    slots: dict[str, float]  # {text of a value: place}
    ticks: tuple[float, ...]  # of the numbers, as values

    def place(self, value: Any) -> float:
        if not is_number(value):
            return self.slots[text_of(value)]
        start, end = self.numbers
        share = ((math.log10(value) if self.is_log else value) - self.low) / (self.high - self.low)
        return start + share * (end - start)

    @property
    def labels(self) -> list[tuple[float, str]]:
        """(place, text) of every tick and slot."""
        ticks = [(self.place(tick), number_text(tick)) for tick in self.ticks]
        return sorted([*ticks, *((place, text) for text, place in self.slots.items())])


def make_axis(values: Iterable[Any], *, is_log: bool = False, slots_last: bool = False) -> Axis:
    """An axis that has a place for each of these values.

    is_log: for numbers above 0, and ignored where there are others. slots_last: above the numbers, not below.
    """
    values = list(values)
    numbers = sorted({float(value) for value in values if is_number(value)})
    odd = sorted({text_of(value) for value in values if not is_number(value)}, key=_natural)
    is_log = is_log and bool(numbers) and numbers[0] > 0
    low, high = _padded(*(math.log10(n) if is_log else n for n in (numbers[0], numbers[-1]))) if numbers else (0.0, 1.0)
    space = min(_MOST_SLOTS, _SLOT * len(odd)) if numbers else 1.0
    start = 1.0 - space if slots_last and numbers else 0.0
    slots = {text: start + space * (rank + 0.5) / len(odd) for rank, text in enumerate(odd)}
    stretch = (0.0, 1.0 - space) if slots_last else (space, 1.0)
    if not numbers:
        stretch = (0.0, 0.0)
    return Axis(is_log, low, high, stretch, slots, tuple(_ticks(numbers, is_log)))


def spans_decades(values: Iterable[Any]) -> bool:
    """Whether numbers are easier to tell apart on a logarithmic axis: all above 0 and wide apart."""
    numbers = [value for value in values if is_number(value)]
    return bool(numbers) and min(numbers) > 0 and max(numbers) / min(numbers) > 8


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def text_of(value: Any) -> str:
    """A value as a config file has it, numbers to three digits."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return number_text(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(text_of(item).replace(',', '') if is_number(item) else text_of(item) for item in value)}]"
    return json.dumps(value, default=str)


def number_text(value: float) -> str:
    """ "20,000", "0.03", "3e-4"; three digits of what is no whole number."""
    if not math.isfinite(value):
        return str(float(value))
    if 1000 <= abs(value) < 1e7:
        return f"{value:,.0f}"
    if 1e-3 <= abs(value) < 1000 or value == 0:
        return f"{value:.3g}"
    mantissa, _, power = f"{value:.2e}".partition("e")
    return f"{float(mantissa):g}e{int(power)}"


def _padded(low: float, high: float) -> tuple[float, float]:
    if high == low:
        return low - (abs(low) * 0.1 or 0.5), high + (abs(high) * 0.1 or 0.5)
    return low - _PADDING * (high - low), high + _PADDING * (high - low)


def _ticks(numbers: Sequence[float], is_log: bool) -> Sequence[float]:
    if len(numbers) <= 4 and (len(numbers) < 2 or _well_apart(numbers, math.log10 if is_log else float)):
        return numbers
    low, high = numbers[0], numbers[-1]
    if is_log:
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        for steps in ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
            ticks = [m * 10.0**power for power in range(first, last + 1) for m in steps]
            ticks = [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]
            if 2 <= len(ticks) <= _MOST_TICKS:
                return ticks
        if last - first > _MOST_TICKS:
            return [10.0**power for power in range(first, last + 1, math.ceil((last - first) / _MOST_TICKS))]
    return _round_ticks(low, high)


def _round_ticks(low: float, high: float) -> Sequence[float]:
    """Multiples of 1, 2 or 5 times a power of ten between the two, at most six."""
    power = math.floor(math.log10(high - low)) - 1
    for step in (m * 10.0 ** (power + p) for p in (0, 1, 2) for m in (1, 2, 5)):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < _MOST_TICKS:
            return [float(f"{number * step:.12g}") for number in range(first, last + 1)]
    return [low, high]


def _well_apart(numbers: Sequence[float], of: Callable[[float], float]) -> bool:
    places = [of(number) for number in numbers]
    return min(b - a for a, b in pairwise(places)) > 0.15 * (places[-1] - places[0])


def _natural(text: str) -> tuple[bool, int, str]:
    """null first, then short lists before long ones."""
    return text != "null", len(text) if text.startswith("[") else 0, text
