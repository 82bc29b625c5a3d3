"""The kinds of values that settings take. A Rule is what the message about a wrong value states."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from distmgcd.config.words import Rule


def _not_a_boolean(value: Any) -> Any:
    """Python and pydantic take true for 1."""
    if isinstance(value, bool):
        raise PydanticCustomError("no_number", "must be a number")  # the sentence is made of the Rule
    return value


Number = BeforeValidator(_not_a_boolean)  # of every kind that is a number
Whole = Annotated[int, Number, Field(ge=0), Rule("a whole number from 0 up")]
Count = Annotated[int, Number, Field(ge=1), Rule("a whole number from 1 up")]
Seed = Annotated[int, Number, Field(ge=0, lt=2**63), Rule("a whole number from 0 to 2^63 - 1")]
Size = Annotated[float, Number, Field(gt=0, allow_inf_nan=False), Rule("a number above 0")]
SizeOrInf = Annotated[float, Number, Field(gt=0), Rule("a number above 0 or .inf")]
Level = Annotated[float, Number, Field(ge=0, allow_inf_nan=False), Rule("a number from 0 up")]
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
