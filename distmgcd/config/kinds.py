"""The kinds of values that settings take. A Rule is what the message about a wrong value states."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

_PLAIN = {str: "text", bool: "true or false", int: "a whole number", float: "a number", NoneType: "null"}
_LISTS = {1: "a list of these", 2: "a list of lists of these"}


@dataclass(frozen=True)
class Rule:
    """What a kind of value must be, in words: "a number above 0". It stands in the metadata of an annotation."""

    words: str


def rule_of(annotation: Any) -> str:
    """ "a whole number from 1 up, or a list of these" for PositiveInt | tuple[PositiveInt, ...]."""
    parts = [_unnested(member) for member in members_of(annotation)]
    base, depths = parts[0][0], [depth for item, depth in parts if item is not NoneType]
    one = _one(base)
    if depths[0] > 0:  # there is no form without a list
        return (
            " or ".join(["a list", *(_LISTS[d].removesuffix(" of these") for d in depths[1:])]) + f", each entry {one}"
        )
    others = [_LISTS[depth] for depth in depths[1:]] + [_one(item) for item, _ in parts if item is NoneType]
    return ", or ".join([one, *others])


def type_of(annotation: Any) -> str:
    """ "int | list[int]" for PositiveInt | tuple[PositiveInt, ...]."""
    if get_origin(annotation) is Annotated:
        return type_of(get_args(annotation)[0])
    if get_origin(annotation) is tuple:
        return f"list[{type_of(get_args(annotation)[0])}]"
    if get_origin(annotation) is Literal:
        return " | ".join(dict.fromkeys(type(value).__name__ for value in get_args(annotation)))
    if annotation is NoneType:
        return "null"
    members = members_of(annotation)
    return annotation.__name__ if len(members) == 1 else " | ".join(dict.fromkeys(map(type_of, members)))


def is_text(annotation: Any) -> bool:
    """Whether a setting takes any text, such as a path."""
    return any(str in (member, *get_args(member)[:1]) for member in members_of(annotation))


def show(sizes: Sequence[int]) -> str:
    return str(list(sizes))


def suggest(word: str, known: Sequence[str]) -> str:
    """ " (did you mean 'learning.ema'?)", or nothing if no known word is close."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def members_of(annotation: Any) -> tuple[Any, ...]:
    """Of a union; a type that is none is its own only member."""
    return get_args(annotation) if get_origin(annotation) in (UnionType, Union) else (annotation,)


def _unnested(annotation: Any) -> tuple[Any, int]:
    """What stands in a list, and in how many lists it stands."""
    depth = 0
    while get_origin(annotation) in (tuple, list):
        annotation, depth = get_args(annotation)[0], depth + 1
    return annotation, depth


def _one(annotation: Any) -> str:
    if get_origin(annotation) is Annotated:
        return next(item.words for item in annotation.__metadata__ if isinstance(item, Rule))
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(map(str, get_args(annotation)))
    return _PLAIN[annotation]


def _not_a_boolean(value: Any) -> Any:
    """Python and pydantic take true for 1."""
    if isinstance(value, bool):
        raise PydanticCustomError("no_number", "must be a number")  # the sentence is made of the Rule
    return value


Number = BeforeValidator(_not_a_boolean)  # of every kind that is a number
NonNegativeInt = Annotated[int, Number, Field(ge=0), Rule("a whole number from 0 up")]
PositiveInt = Annotated[int, Number, Field(ge=1), Rule("a whole number from 1 up")]
Seed = Annotated[int, Number, Field(ge=0, lt=2**63), Rule("a whole number from 0 to 2^63 - 1")]
PositiveFloat = Annotated[float, Number, Field(gt=0, allow_inf_nan=False), Rule("a number above 0")]
PositiveOrInf = Annotated[float, Number, Field(gt=0), Rule("a number above 0 or .inf")]
NonNegativeFloat = Annotated[float, Number, Field(ge=0, allow_inf_nan=False), Rule("a number from 0 up")]
Fraction = Annotated[float, Number, Field(ge=0, le=1), Rule("a fraction from 0 to 1")]
Decay = Annotated[float, Number, Field(ge=0, lt=1), Rule("a number from 0 up and below 1")]
Factor = Annotated[float, Number, Field(gt=0, lt=1), Rule("a number above 0 and below 1")]
Channels = Annotated[Literal[1, 3], Number, Rule("one of 1, 3")]
Switch = Annotated[Literal["auto"] | bool, Rule("auto, true or false")]
Text = Annotated[str, Field(min_length=1), Rule("text that is not empty")]
Colour = Annotated[str, Field(pattern="^(black|white|#[0-9a-fA-F]{6})$"), Rule("black, white or a colour as '#rrggbb'")]
Activation = Literal["leaky_relu", "relu", "silu", "gelu", "elu", "softplus"]
Norm = Literal["none", "layer", "spectral", "batch"]
Clamp = Literal["none", "end", "step"]
Schedule = Literal["constant", "falling"]
Layer = tuple[int, int, int]  # kernel, stride, output channels of one convolution


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, use_attribute_docstrings=True)
