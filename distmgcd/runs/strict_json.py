"""JSON that every parser reads: numbers that are not finite are the strings "NaN", "Infinity" and "-Infinity".

Python writes them bare, which is no JSON (RFC 8259). The strings are those of the JSON form of Protocol Buffers; null
would not say which it was. Older files, with bare ones, are read as well.
"""

import json
import math
import re
from typing import Any

_WORDS = ("NaN", "Infinity", "-Infinity")
_ANY_WORD = re.compile(r'"(NaN|-?Infinity)"')


def dumps(value: Any, *, indent: int | None = None) -> str:
    try:
        return json.dumps(value, indent=indent, allow_nan=False)
    except ValueError:  # rare: only then is everything copied
        return json.dumps(_with_words(value), indent=indent, allow_nan=False)


def loads(text: str | bytes) -> Any:
    """Raises ValueError for what is no JSON."""
    text = text.decode() if isinstance(text, bytes) else text
    value = json.loads(text)
    return _with_numbers(value) if _ANY_WORD.search(text) else value


def _with_words(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_words(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_words(item) for item in value]
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _with_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_numbers(item) for item in value]
    return float(value) if isinstance(value, str) and value in _WORDS else value
