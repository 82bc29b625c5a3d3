"""What a Parquet file says about its columns: which holds the images, how, and what the labels mean.

Images are stored in one of three layouts:

    hugging face  struct<bytes: binary, path: string>: an image file, or the path of one beside the Parquet file
    encoded       binary: an image file
    raw           binary, fixed_size_binary, list<uint8>: pixels in row-major order, whose shape stands in
                  metadata: the field's `shape` as "[28, 28]" or "28x28", or the schema's `format` as
                  "raw uint8 28x28"; binary without it is encoded
"""

import json
import re
from dataclasses import dataclass
from enum import Enum

import pyarrow as pa

from distmgcd.errors import UserError

_IMAGE_NAMES = ("image", "img")
_LABEL_NAMES = ("label", "labels", "fine_label")
_SHAPE = re.compile(r"\d+(?:\s*[x,]\s*\d+){1,2}")
_RAW_FORMAT = re.compile(r"raw uint8 (\d+(?:x\d+){1,2})\b")


class Layout(Enum):
    HUGGING_FACE = "Hugging Face struct<bytes, path>"
    ENCODED = "encoded bytes"
    RAW = "raw uint8"


@dataclass(frozen=True)
class ImageColumn:
    """Where the images are and how to read one."""

    name: str
    layout: Layout
    shape: tuple[int, ...] | None = None  # of raw pixels

    def __str__(self) -> str:
        return self.layout.value + (" " + "x".join(map(str, self.shape)) if self.shape else "")


def image_column(schema: pa.Schema, *, path: str) -> ImageColumn:
    """The column `image` or `img`, else the only one that can hold images. Raises UserError."""
    suitable = [name for name in schema.names if _layout(schema, name) is not None]
    named = [name for name in _IMAGE_NAMES if name in suitable]
    if not named and len(suitable) != 1:
        columns = ", ".join(f"{field.name} ({field.type})" for field in schema)
        raise UserError(
            f"data.path {path!r} must have a column of images named image or img, or exactly one column of bytes, "
            f"but its columns are {columns}; rename the column that holds the images to image."
        )
    name = (named or suitable)[0]
    layout = _layout(schema, name)
    shape = _shape(schema, name)
    if layout is Layout.RAW and shape is None:
        raise UserError(
            f"data.path {path!r} has raw pixels in column {name!r} but does not say their shape; give the column "
            f"field metadata such as shape='[28, 28]' or '[32, 32, 3]', or import the images again."
        )
    return ImageColumn(name, layout, shape if layout is Layout.RAW else None)


def label_column(schema: pa.Schema) -> str | None:
    return next((name for name in _LABEL_NAMES if name in schema.names), None)


def class_names(schema: pa.Schema, label: str | None) -> tuple[str, ...] | None:
    """Names of the labels 0, 1, ... from Hugging Face's metadata, or from `classes` separated by commas."""
    metadata = _metadata_of_schema(schema)
    try:
        names = json.loads(metadata["huggingface"])["info"]["features"][label]["names"]
    except (KeyError, TypeError, ValueError):
        names = metadata["classes"].split(",") if metadata.get("classes") else None
    return tuple(map(str, names)) if names else None


def _layout(schema: pa.Schema, name: str) -> Layout | None:
    kind = schema.field(name).type
    if pa.types.is_struct(kind) and "bytes" in (kind.field(i).name for i in range(kind.num_fields)):
        return Layout.HUGGING_FACE
    if pa.types.is_fixed_size_binary(kind) or _is_list_of_uint8(kind):
        return Layout.RAW
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return Layout.RAW if _shape(schema, name) else Layout.ENCODED
    return None


def _is_list_of_uint8(kind: pa.DataType) -> bool:
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return is_list and kind.value_type == pa.uint8()


def _shape(schema: pa.Schema, name: str) -> tuple[int, ...] | None:
    """The shape that metadata give for raw pixels, if it is one of an image of 1 or 3 channels."""
    of_field = {key.decode(): value.decode() for key, value in (schema.field(name).metadata or {}).items()}
    raw_format = _RAW_FORMAT.search(_metadata_of_schema(schema).get("format", ""))
    text = of_field.get("shape") or (raw_format and raw_format[1])
    numbers = _SHAPE.search(text) if text else None
    if numbers is None:
        return None
    shape = tuple(int(number) for number in re.findall(r"\d+", numbers[0]))
    is_image = 0 not in shape and (len(shape) == 2 or shape[2] in (1, 3) or shape[0] in (1, 3))
    return shape if is_image else None


def _metadata_of_schema(schema: pa.Schema) -> dict[str, str]:
    return {key.decode(): value.decode(errors="replace") for key, value in (schema.metadata or {}).items()}
