"""What a Parquet file says about its columns: which holds the images, how, and what the labels mean.

Images are stored in one of these layouts:

    hugging face  struct<bytes: binary, path: string>: an image file, or the path of one beside the Parquet file
    encoded       binary: an image file
    raw           binary, fixed_size_binary, list<uint8>: pixels in row-major order, whose shape stands in
                  metadata: the field's `shape` as "[28, 28]" or "28x28", or the schema's `format` as
                  "raw uint8 28x28"; binary without it is encoded
    tensor        Arrow's fixed_shape_tensor, or Ray Data's tensor of one shape: whole numbers of 0 to 255
    tensors       the same of a shape of its own in every row: struct<data: list, shape: list>
    nested lists  list<list<uint8>>, or one list deeper, also as arrays of Hugging Face: whole numbers of 0 to 255

Extension types are read by what they are stored as: Ray's are known to pyarrow only after Ray Data was imported.
"""

import json
import pickletools
import re
from dataclasses import dataclass
from enum import Enum
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image
from pyarrow import fs

from distmgcd.data.sources import pixels
from distmgcd.data.sources.find_files import unreadable
from distmgcd.data.sources.pixels import is_image_shape
from distmgcd.data.sources.source import CorruptImage
from distmgcd.errors import UserError

_IMAGE_NAMES = ("image", "img")
_LABEL_NAMES = ("label", "labels", "fine_label")
_SHAPE = re.compile(r"\d+(?:\s*[x,]\s*\d+){1,2}")
_TENSORS = ("arrow.fixed_shape_tensor", "ray.data.arrow_tensor", "ray.data.arrow_tensor_v2")
_OF_A_TUPLE = ("PROTO", "FRAME", "MARK", "MEMOIZE", "STOP")
_RAW_FORMAT = re.compile(r"raw uint8 (\d+(?:x\d+){1,2})\b")


class Layout(Enum):
    HUGGING_FACE = "Hugging Face struct<bytes, path>"
    ENCODED = "encoded bytes"
    RAW = "raw uint8"
    TENSOR = "tensor"
    TENSORS = "tensors of many shapes"
    NESTED = "nested lists"


@dataclass(frozen=True)
class ImageColumn:
    """Where the images are and how to read one."""

    name: str
    layout: Layout
    shape: tuple[int, ...] | None = None  # of raw pixels and tensors, as they lie in memory
    permutation: tuple[int, ...] | None = None  # of a tensor: which of these axes is the first, second, ...

    def __str__(self) -> str:
        return self.layout.value + (" " + "x".join(map(str, self.shape)) if self.shape else "")


def image_column(schema: pa.Schema, *, path: str) -> ImageColumn:
    """The column `image` or `img`, else the only one that can hold images. Raises UserError."""
    layouts = {field.name: layout for field in schema if (layout := _layout(schema, field)) is not None}
    named = [name for name in _IMAGE_NAMES if name in layouts]
    likely = [name for name, layout in layouts.items() if layout is not Layout.NESTED] or list(layouts)
    if not named and len(likely) != 1:
        raise _no_image_column(schema, path)
    name = (named or likely)[0]
    field = schema.field(name)
    if layouts[name] is Layout.TENSOR:
        return _tensor_column(field, path=path)
    if layouts[name] is not Layout.RAW:
        return ImageColumn(name, layouts[name])
    if (shape := _shape(schema, field)) is None:
        raise UserError(
            f"data.path {path!r} has raw pixels in column {name!r} but does not say their shape; give the column "
            f"field metadata such as shape='[28, 28]' or '[32, 32, 3]', or import the images again."
        )
    return ImageColumn(name, Layout.RAW, shape)


def _no_image_column(schema: pa.Schema, path: str) -> UserError:
    columns = ", ".join(f"{field.name} ({_kind_in_words(field)})" for field in schema)
    if named := [name for name in _IMAGE_NAMES if name in schema.names]:
        return UserError(
            f"Column {named[0]!r} of data.path {path!r} holds {_kind_in_words(schema.field(named[0]))}, which is not "
            "a way of storing images that is known here; write them as image files (binary, or struct<bytes, path>), "
            "or as tensors or nested lists of uint8."
        )
    return UserError(
        f"data.path {path!r} must have a column of images named image or img, or exactly one column of bytes, "
        f"but its columns are {columns}; rename the column that holds the images to image."
    )


def _tensor_column(field: pa.Field, *, path: str) -> ImageColumn:
    """The column of tensors of one shape. Raises UserError."""
    shape, permutation = _shape_of_tensor(field)
    if not (len(shape) in (2, 3) and is_image_shape(shape)):
        said = f"are of shape {'x'.join(map(str, shape))}" if shape else "do not say their shape"
        raise UserError(
            f"Column {field.name!r} of data.path {path!r} holds tensors that {said}, but images are [H, W], [H, W, C] "
            "or [C, H, W] with C = 1, 3 or 4; write one image in each row."
        )
    return ImageColumn(field.name, Layout.TENSOR, shape, permutation)


def _shape_of_tensor(field: pa.Field) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """(shape, permutation); the shape is () where the file does not say it."""
    if isinstance(field.type, pa.FixedShapeTensorType):  # pyarrow knows this one itself
        permutation = field.type.permutation
        return tuple(field.type.shape), tuple(permutation) if permutation else None
    metadata = (
        field.type.__arrow_ext_serialize__()
        if isinstance(field.type, pa.BaseExtensionType)
        else field.metadata.get(b"ARROW:extension:metadata", b"")
    )
    try:
        return tuple(map(int, json.loads(metadata))), None
    except (TypeError, ValueError):
        return _numbers_of_pickle(metadata), None


def _numbers_of_pickle(pickled: bytes) -> tuple[int, ...]:
    """A pickled tuple of whole numbers, as Ray 2.49 to 2.54 wrote, read without executing it; () of anything else."""
    try:
        steps: list[tuple[str, Any]] = [(opcode.name, argument) for opcode, argument, _ in pickletools.genops(pickled)]
    except ValueError:
        return ()
    numbers = tuple(argument for name, argument in steps if name.startswith("BININT"))
    is_tuple = all(name.startswith(("BININT", "TUPLE")) or name in _OF_A_TUPLE for name, _ in steps)
    return numbers if is_tuple else ()


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


def _layout(schema: pa.Schema, field: pa.Field) -> Layout | None:
    kind = _storage(field.type)
    if _extension_name(field) in _TENSORS:
        return Layout.TENSOR if _depth_of_lists(kind) == 1 else None
    if pa.types.is_struct(kind):
        of = {kind.field(i).name: kind.field(i).type for i in range(kind.num_fields)}
        if "bytes" in of:
            return Layout.HUGGING_FACE
        return Layout.TENSORS if of.keys() == {"data", "shape"} and _depth_of_lists(of["data"]) == 1 else None
    if pa.types.is_fixed_size_binary(kind) or (_depth_of_lists(kind) == 1 and kind.value_type == pa.uint8()):
        return Layout.RAW
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return Layout.RAW if _shape(schema, field) else Layout.ENCODED
    return Layout.NESTED if _depth_of_lists(kind) in (2, 3) else None


def _extension_name(field: pa.Field) -> str:
    """Of an extension type, known to pyarrow or not; "" of another."""
    if isinstance(field.type, pa.BaseExtensionType):
        return field.type.extension_name
    return (field.metadata or {}).get(b"ARROW:extension:name", b"").decode()


def plain(column: pa.Array) -> pa.Array:
    """The same values, without an extension type, a dictionary or views."""
    if isinstance(column, pa.ExtensionArray):
        return column.storage
    if isinstance(column, pa.DictionaryArray):
        return column.dictionary_decode()
    return column.cast(pa.large_binary()) if pa.types.is_binary_view(column.type) else column


def _storage(kind: pa.DataType) -> pa.DataType:
    """The type of plain(column)."""
    if isinstance(kind, pa.BaseExtensionType):
        return kind.storage_type
    if pa.types.is_dictionary(kind):
        return kind.value_type
    return pa.large_binary() if pa.types.is_binary_view(kind) else kind


def _kind_in_words(field: pa.Field) -> str:
    name = _extension_name(field)
    return f"{name} of {_storage(field.type)}" if name else str(field.type)


def _depth_of_lists(kind: pa.DataType) -> int:
    """How many lists around whole numbers; 0 around anything else."""
    depth = 0
    while pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        kind, depth = kind.value_type, depth + 1
    return depth if pa.types.is_integer(kind) else 0


def _shape(schema: pa.Schema, field: pa.Field) -> tuple[int, ...] | None:
    """The shape that metadata give for raw pixels, if it is one of an image of 1 or 3 channels."""
    of_field = {key.decode(): value.decode(errors="replace") for key, value in (field.metadata or {}).items()}
    raw_format = _RAW_FORMAT.search(_metadata_of_schema(schema).get("format", ""))
    text = of_field.get("shape") or (raw_format and raw_format[1])
    numbers = _SHAPE.search(text) if text else None
    if numbers is None:
        return None
    shape = tuple(int(number) for number in re.findall(r"\d+", numbers[0]))
    return shape if is_image_shape(shape) else None


def _metadata_of_schema(schema: pa.Schema) -> dict[str, str]:
    return {key.decode(): value.decode(errors="replace") for key, value in (schema.metadata or {}).items()}


def load(value: pa.Scalar, column: ImageColumn, *, file_system: fs.FileSystem, folders: list[str]) -> Image.Image:
    """folders: in which a file is looked for that the value only names. Raises CorruptImage, UserError."""
    if not value.is_valid:
        raise CorruptImage("no image: the value is null")
    if column.layout is Layout.ENCODED:
        return pixels.decode(value.as_py())
    if column.layout is Layout.HUGGING_FACE:
        return pixels.decode(_bytes_of_struct(value.as_py(), file_system, folders))
    if column.layout is Layout.TENSORS:
        return pixels.from_raw(_numbers(value["data"]), tuple(value["shape"].as_py()))
    if column.layout is Layout.NESTED:
        return _of_nested_lists(value.as_py())
    return _of_one_shape(value, column)


def _of_one_shape(value: pa.Scalar, column: ImageColumn) -> Image.Image:
    raw = _numbers(value) if isinstance(value, pa.ListScalar) else value.as_py()
    shape = column.shape or ()
    if column.permutation and raw.size == np.prod(shape):
        raw = raw.reshape(shape).transpose(column.permutation)
        return pixels.from_raw(raw, raw.shape)
    return pixels.from_raw(raw, shape)


def _of_nested_lists(value: list[Any]) -> Image.Image:
    try:
        values = np.array(value, dtype=np.int64)
    except (TypeError, ValueError):
        raise CorruptImage("nested lists of unequal lengths, or with nulls") from None
    return pixels.from_raw(values, values.shape)


def _numbers(value: pa.ListScalar) -> np.ndarray:
    return value.values.to_numpy(zero_copy_only=False)


def _bytes_of_struct(value: dict[str, Any], file_system: fs.FileSystem, folders: list[str]) -> bytes:
    if value["bytes"] is not None:
        return value["bytes"]
    name = value.get("path")
    if not name:
        raise CorruptImage("no image: neither bytes nor path is given")
    for place_of_file, file in _places(name, file_system, folders):
        try:
            with place_of_file.open_input_file(file) as opened:
                return opened.read()
        except FileNotFoundError:
            continue
        except (OSError, pa.ArrowException) as error:  # the file, not its image, is the trouble: skipping would hide it
            raise unreadable(file, error) from error
    where = "does not exist" if PurePosixPath(name).is_absolute() else "is not beside the Parquet file"
    raise CorruptImage(f"the file {name} that the row names {where}")


def _places(name: str, file_system: fs.FileSystem, folders: list[str]) -> list[tuple[fs.FileSystem, str]]:
    """Where the file of this name may be: an absolute path is one of this machine, however the table is reached."""
    if PurePosixPath(name).is_absolute():
        return [(fs.LocalFileSystem(), name)]
    return [(file_system, f"{folder}/{name}") for folder in dict.fromkeys(folders)]
