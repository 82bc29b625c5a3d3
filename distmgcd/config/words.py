"""What a setting takes, in words, for the sentence that tells a user of a wrong value."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

_PLAIN = {str: "text", bool: "true or false", int: "a whole number", float: "a number", NoneType: "null"}
_LISTS = {1: "a list of these", 2: "a list of lists of these"}


@dataclass(frozen=True)
class Rule:
    """What a kind of value must be, in words: "a number above 0". It stands in the metadata of an annotation."""

    words: str


def rule_of(annotation: Any) -> str:
    """ "a whole number from 1 up, or a list of these" for Count | tuple[Count, ...]."""
    parts = [_unnested(member) for member in _members(annotation)]
    base, depths = parts[0][0], [depth for item, depth in parts if item is not NoneType]
    one = _one(base)
    if depths[0] > 0:  # there is no form without a list
        return (
            " or ".join(["a list", *(_LISTS[d].removesuffix(" of these") for d in depths[1:])]) + f", each entry {one}"
        )
    others = [_LISTS[depth] for depth in depths[1:]] + [_one(item) for item, _ in parts if item is NoneType]
    return ", or ".join([one, *others])


def type_of(annotation: Any) -> str:
    """ "int | list[int]" for Count | tuple[Count, ...]."""
    if get_origin(annotation) is Annotated:
        return type_of(get_args(annotation)[0])
    if get_origin(annotation) is tuple:
        return f"list[{type_of(get_args(annotation)[0])}]"
    if get_origin(annotation) is Literal:
        return " | ".join(dict.fromkeys(type(value).__name__ for value in get_args(annotation)))
    if annotation is NoneType:
        return "null"
    members = _members(annotation)
    return annotation.__name__ if len(members) == 1 else " | ".join(dict.fromkeys(map(type_of, members)))


def is_text(annotation: Any) -> bool:
    """Whether a setting takes any text, such as a path."""
    return any(str in (member, *get_args(member)[:1]) for member in _members(annotation))


def show(sizes: Sequence[int]) -> str:
    return str(list(sizes))


def suggest(word: str, known: Sequence[str]) -> str:
    """ " (did you mean 'learning.ema'?)", or nothing if no known word is close."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _members(annotation: Any) -> tuple[Any, ...]:
    """Of a union; a type that is none is its own only member."""
    return get_args(annotation) if get_origin(annotation) in (UnionType, Union) else (annotation,)


def _unnested(annotation: Any) -> tuple[Any, int]:
    """What stands in a list, and in how many lists it stands."""
    depth = 0
    while get_origin(annotation) is tuple:
        annotation, depth = get_args(annotation)[0], depth + 1
    return annotation, depth


def _one(annotation: Any) -> str:
    if get_origin(annotation) is Annotated:
        return next(item.words for item in annotation.__metadata__ if isinstance(item, Rule))
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(map(str, get_args(annotation)))
    return _PLAIN[annotation]
