"""What a setting takes, in words, for the sentence that tells a user of a wrong value."""

import difflib
from collections.abc import Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

_PLAIN = {str: "text", bool: "true or false", int: "a whole number", float: "a number", NoneType: "null"}
_LISTS = {1: "a list of these", 2: "a list of lists of these"}


def rule_of(annotation: Any) -> str:
    """ "a whole number from 1 up, or a list of these" for Count | tuple[Count, ...]."""
    members = get_args(annotation) if get_origin(annotation) in (UnionType, Union) else (annotation,)
    parts = [_unnested(member) for member in members]
    base, depths = parts[0][0], [depth for item, depth in parts if item is not NoneType]
    one = _one(base)
    if depths[0] > 0:  # there is no form without a list
        return (
            " or ".join(["a list", *(_LISTS[d].removesuffix(" of these") for d in depths[1:])]) + f", each entry {one}"
        )
    others = [_LISTS[depth] for depth in depths[1:]] + [_one(item) for item, _ in parts if item is NoneType]
    return ", or ".join([one, *others])


def show(sizes: Sequence[int]) -> str:
    return str(list(sizes))


def suggest(word: str, known: Sequence[str]) -> str:
    """ " (did you mean 'learning.ema'?)", or nothing if no known word is close."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _unnested(annotation: Any) -> tuple[Any, int]:
    """What stands in a list, and in how many lists it stands."""
    depth = 0
    while get_origin(annotation) is tuple:
        annotation, depth = get_args(annotation)[0], depth + 1
    return annotation, depth


def _one(annotation: Any) -> str:
    if get_origin(annotation) is Annotated:
        return annotation.__metadata__[0].description
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(map(str, get_args(annotation)))
    return _PLAIN[annotation]
