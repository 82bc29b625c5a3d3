"""From one value of a Parquet column to its image."""

from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image
from pyarrow import fs

from distmgcd.data.sources import pixels
from distmgcd.data.sources.corrupt import CorruptImage
from distmgcd.data.sources.find_files import unreadable
from distmgcd.data.sources.parquet_schema import ImageColumn, Layout


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
