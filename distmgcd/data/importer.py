"""Writing images to files: any source as one Parquet file for every machine of a cluster; a model's samples."""

import io
import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from distmgcd.data.image_set import Look, Noticed, hash_of_pixels, look_at
from distmgcd.data.sources import pixels
from distmgcd.data.sources.open_source import open_source
from distmgcd.data.sources.source import (
    NO_LABEL,
    Contents,
    SkippedRow,
    Source,
    check_corrupt_limit,
    check_max_corrupt,
    decode_rows,
)
from distmgcd.environment import absolute
from distmgcd.errors import UserError

StoredLayout = Literal["png", "raw"]
_Shape = tuple[int, int, int]
_Stored = tuple[int, bytes, _Shape]  # row, what is stored, [H, W, C]

# One row group is what a reader holds at a time: small for thumbnails, bounded for large images.
_MOST_ROWS_PER_GROUP = 1000
_MOST_BYTES_PER_GROUP = 64 * 2**20


@dataclass(frozen=True, kw_only=True)
class ImportReport:
    """What `import_images` wrote."""

    num_images: int
    splits: dict[str, int]  # images written of each split
    skipped: tuple[SkippedRow, ...]
    path: Path
    num_bytes: int
    notes: tuple[str, ...]  # what a user should know of the images, one sentence each


def import_images(
    source: str,
    dest: str,
    *,
    image_size: int | None = None,
    channels: int | None = None,
    layout: StoredLayout = "png",
    background: str = "black",
    max_corrupt: float = 0.001,
) -> ImportReport:
    """Write all splits of `source` to one Parquet file `dest` with columns image, label and split.

    source: whatever `open_images` takes.
    dest: a local file that does not exist yet; parent folders are made. It appears when complete.
    image_size: pixels per side of the centre square; None keeps every image's own size and shape.
    channels: 1 or 3, converting where needed; None takes those of the first image, which all must have.
    layout: "png" stores PNG files the way Hugging Face does; "raw" stores uint8 [H, W] or [H, W, 3], one size.
    background: the colour behind transparent images: black, white or "#rrggbb".
    max_corrupt: the largest fraction of rows that may fail to decode.

    Raises UserError.
    """
    _check_settings(image_size=image_size, channels=channels, layout=layout, background=background)
    check_max_corrupt(max_corrupt)
    target = _free_target(dest)
    opened = open_source(source)
    contents = opened.contents()
    skipped: list[SkippedRow] = []
    noticed = Noticed("all splits")
    wanted = _Wanted(image_size, channels, layout, background)
    images = _encoded(opened, contents, wanted, skipped=skipped, noticed=noticed)
    with _appearing_when_complete(target) as file:
        rows = _write(file, _checked(images, source=opened, layout=layout), contents, layout=layout)
        check_corrupt_limit(skipped, num_rows=len(contents), max_corrupt=max_corrupt, path=source)
        if not rows:
            raise UserError(f"data.path {source!r} has no image that can be decoded; point it at images.")
    counts = Counter(contents.split_names[code] for code in contents.split_codes[rows])
    return ImportReport(
        num_images=len(rows),
        splits={name: counts[name] for name in contents.split_names if counts[name]},
        skipped=tuple(skipped),
        path=target,
        num_bytes=target.stat().st_size,
        notes=(*contents.notes, *noticed.notes(background=background, setting="--background")),
    )


class _Wanted(NamedTuple):
    image_size: int | None
    channels: int | None
    layout: StoredLayout
    background: str


def _check_settings(*, image_size: int | None, channels: int | None, layout: str, background: str) -> None:
    if image_size is not None and image_size < 1:
        raise UserError(f"image_size must be at least 1 pixel, but is {image_size}; leave it out to keep the sizes.")
    if channels not in (None, 1, 3):
        raise UserError(f"channels must be 1 (grey) or 3 (colour), but is {channels}; leave it out to keep them.")
    if layout not in ("png", "raw"):
        raise UserError(f"layout must be png or raw, but is {layout!r}; png is smaller, raw is read faster.")
    if re.fullmatch("black|white|#[0-9a-fA-F]{6}", background) is None:
        raise UserError(f"background must be black, white or a colour as '#rrggbb', but is {background!r}.")


def _free_target(dest: str) -> Path:
    if "://" in dest:
        raise UserError(f"dest {dest!r} must be a local file; import to one and copy it to where it should be.")
    target = absolute(dest)
    if target.is_dir() or not target.name:
        example = str(target / "images.parquet")
        raise UserError(f"dest {dest!r} is a folder, but must be a file; write for example {example!r}.")
    if target.exists():
        raise UserError(f"dest {dest!r} exists and is never overwritten; choose another name or remove it first.")
    return target


@contextmanager
def _appearing_when_complete(target: Path) -> Iterator[Path]:
    """A file of another name to write to; it becomes `target` at the end, or is removed if anything fails."""
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.unfinished")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield unfinished
            unfinished.rename(target)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"dest {str(target)!r} cannot be written ({reason}); choose a place that can.") from error


def _encoded(
    source: Source, contents: Contents, wanted: _Wanted, *, skipped: list[SkippedRow], noticed: Noticed
) -> Iterator[_Stored]:
    """Every image of the source, converted and encoded, in order; corrupt rows are appended to `skipped`."""

    def prepare(row: int, image: Image.Image) -> tuple[bytes, _Shape, int, Look]:
        flat = pixels.over(image, wanted.background)
        look = look_at(image, flat)
        flat = pixels.with_channels(flat, wanted.channels or pixels.num_channels(flat))
        flat = pixels.fit(flat, wanted.image_size) if wanted.image_size else flat
        shape = (flat.height, flat.width, pixels.num_channels(flat))
        return _stored_bytes(flat, wanted.layout), shape, hash_of_pixels(flat.tobytes()), look

    for item in decode_rows(source, np.arange(len(contents)), prepare):
        if isinstance(item, SkippedRow):
            skipped.append(item)
        else:
            row, (stored, shape, hash_of_image, look) = item
            noticed.add(hash_of_image, look)
            yield row, stored, shape


def _stored_bytes(image: Image.Image, layout: StoredLayout) -> bytes:
    if layout == "raw":
        return image.tobytes()  # row-major [H, W] or [H, W, 3]
    file = io.BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()


def _checked(images: Iterator[_Stored], *, source: Source, layout: StoredLayout) -> Iterator[_Stored]:
    """Hold every image to the channels, and in raw layout to the size, of the first. Raises UserError."""
    first: tuple[int, _Shape] | None = None
    for row, stored, shape in images:
        first_row, first_shape = first = first or (row, shape)
        if shape[2] != first_shape[2]:
            raise UserError(
                f"All images must have the same channels, but {source.place(row)} is {pixels.kind_of(shape[2])} "
                f"and {source.place(first_row)} is {pixels.kind_of(first_shape[2])}; pass --channels 1 or --channels 3."
            )
        if layout == "raw" and shape != first_shape:
            raise UserError(
                f"layout=raw needs images of one size, but {source.place(row)} is {shape[1]}x{shape[0]} and "
                f"{source.place(first_row)} is {first_shape[1]}x{first_shape[0]}; pass --image-size, or --layout png."
            )
        yield row, stored, shape


def _write(file: Path, images: Iterator[_Stored], contents: Contents, *, layout: StoredLayout) -> list[int]:
    """Write the images as they come; returns the rows written, for none of which there is no file."""
    first = next(images, None)
    if first is None:
        return []
    schema = _schema(contents, layout=layout, shape=first[2])
    rows: list[int] = []
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for group in _row_groups(chain([first], images)):
            writer.write_batch(_record_batch(group, contents, schema=schema))
            rows.extend(row for row, _, _ in group)
    return rows


def _row_groups(images: Iterator[_Stored]) -> Iterator[list[_Stored]]:
    group: list[_Stored] = []
    num_bytes = 0
    for item in images:
        group.append(item)
        num_bytes += len(item[1])
        if len(group) == _MOST_ROWS_PER_GROUP or num_bytes >= _MOST_BYTES_PER_GROUP:
            yield group
            group, num_bytes = [], 0
    if group:
        yield group


def _record_batch(group: list[_Stored], contents: Contents, *, schema: pa.Schema) -> pa.RecordBatch:
    rows = [row for row, _, _ in group]
    images: list = [stored for _, stored, _ in group]
    if pa.types.is_struct(schema.field("image").type):
        images = [{"bytes": stored, "path": f"{row:08d}.png"} for row, stored in zip(rows, images, strict=True)]
    labels = np.full(len(rows), NO_LABEL) if contents.labels is None else contents.labels[rows]
    splits = [contents.split_names[code] for code in contents.split_codes[rows]]
    columns = [
        pa.array(images, schema.field("image").type),
        pa.array(labels, pa.int64(), mask=labels == NO_LABEL),
        pa.array(splits, pa.string()),
    ]
    return pa.record_batch(columns, schema=schema)


def _schema(contents: Contents, *, layout: StoredLayout, shape: _Shape) -> pa.Schema:
    """Columns and metadata, from which Hugging Face's datasets knows images and label names too."""
    if layout == "png":
        image = pa.field("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
        image_feature = {"_type": "Image"}
    else:
        pixel_shape = shape[:2] if shape[2] == 1 else shape
        image = pa.field("image", pa.binary(), metadata={"shape": json.dumps(pixel_shape), "dtype": "uint8"})
        image_feature = {"dtype": "binary", "_type": "Value"}
    label_feature = {"dtype": "int64", "_type": "Value"}
    if contents.classes:
        label_feature = {"names": list(contents.classes), "_type": "ClassLabel"}
    split_feature = {"dtype": "string", "_type": "Value"}
    features = {"image": image_feature, "label": label_feature, "split": split_feature}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.schema([image, ("label", pa.int64()), ("split", pa.string())], metadata=metadata)


def write_parquet(images: np.ndarray, dest: Path) -> None:
    """uint8 [N, C, S, S] as PNG files in the Hugging Face layout, split "train"; `open_images` reads it back."""
    rows = [{"bytes": _png(image), "path": f"{number:08d}.png"} for number, image in enumerate(images)]
    column = pa.array(rows, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    pq.write_table(pa.table({"image": column, "split": ["train"] * len(rows)}), dest, compression="zstd")


def write_npz(images: np.ndarray, dest: Path) -> None:
    """uint8 [N, C, S, S] as the array `images` of a compressed .npz file."""
    with dest.open("wb") as file:
        np.savez_compressed(file, images=images)


def _png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image[0] if len(image) == 1 else np.moveaxis(image, 0, 2)).save(file, format="PNG")
    return file.getvalue()
