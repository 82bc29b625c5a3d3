"""A summary of a data set, for a look before training on it."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations
from typing import NamedTuple

import numpy as np
from PIL import Image

from distmgcd.data.image_set import Look, Noticed, hash_of_pixels, look_at
from distmgcd.data.sources import pixels
from distmgcd.data.sources.find_files import find_files
from distmgcd.data.sources.open_source import open_source
from distmgcd.data.sources.source import NO_LABEL, Contents, SkippedRow, decode_rows

# A few runs of rows rather than single rows all over: a Parquet file is read by row groups.
_NUM_RUNS = 8
NUM_SAMPLES = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class Description:
    """A data set at a glance. Sizes, channels, corrupt rows and notes of images are those of a sample of the rows."""

    path: str
    layout: str  # how the images are stored
    num_rows: int
    splits: dict[str, int]  # rows per split
    split_origin: str  # where the splits come from
    labels: dict[int, int] | None  # rows per label; None if no row has one
    classes: tuple[str, ...] | None  # names of the labels 0, 1, ...
    num_bytes: int | None  # of all files; None for images that are part of a Python package
    num_sampled: int
    image_sizes: dict[tuple[int, int], int]  # (width, height) in pixels -> sampled images, most frequent first
    channels: dict[int, int]  # 1 or 3 -> sampled images
    corrupt: tuple[SkippedRow, ...]  # among the sampled
    notes: tuple[str, ...]  # what a user should know, one sentence each
    examples: tuple[np.ndarray, ...] = field(repr=False)  # each uint8 [H, W, C], the first 64


class _Seen(NamedTuple):
    """What is kept of one image."""

    row: int
    size: tuple[int, int]
    channels: int
    hash: int
    look: Look
    example: np.ndarray | None


def describe(path: str, *, num_samples: int | None = NUM_SAMPLES, background: str = "black") -> Description:
    """Look at `num_samples` images of `path`, spread over its rows, or at all, and count the rest without decoding.

    background: the colour behind transparent images: black, white or "#rrggbb". Raises UserError if there is nothing
    to be read.
    """
    source = open_source(path)
    contents = source.contents()
    rows = _spread_rows(len(contents), num_samples=num_samples or len(contents))
    shown = frozenset(rows[:NUM_SAMPLES].tolist())

    def look(row: int, image: Image.Image) -> _Seen:
        flat = pixels.over(image, background)
        example = np.moveaxis(pixels.to_array(flat), 0, 2) if row in shown else None
        seen = look_at(image, flat)
        return _Seen(row, flat.size, pixels.num_channels(flat), hash_of_pixels(flat.tobytes()), seen, example)

    found = list(decode_rows(source, rows, look))
    images = [item[1] for item in found if not isinstance(item, SkippedRow)]
    return Description(
        path=path,
        layout=contents.layout,
        num_rows=len(contents),
        splits=contents.rows_per_split(),
        split_origin=contents.split_origin,
        labels=_rows_per_label(contents),
        classes=contents.classes,
        num_bytes=_num_bytes(path),
        num_sampled=len(rows),
        image_sizes=dict(Counter(image.size for image in images).most_common()),
        channels=dict(Counter(image.channels for image in images).most_common()),
        corrupt=tuple(item for item in found if isinstance(item, SkippedRow)),
        notes=(*contents.notes, *_notes(images, contents, background)),
        examples=tuple(image.example for image in images if image.example is not None),
    )


def _notes(images: list[_Seen], contents: Contents, background: str) -> Iterator[str]:
    noticed = Noticed("looked at")
    for image in images:
        noticed.add(image.hash, image.look)
    yield from noticed.notes(background=background)
    hashes = np.array([image.hash for image in images], dtype=np.uint64)
    codes = contents.split_codes[[image.row for image in images]]
    for one, other in combinations(range(len(contents.split_names)), 2):
        if num := int(np.isin(hashes[codes == other], hashes[codes == one]).sum()):
            names = contents.split_names
            yield f"Images of {names[other]} that are also in {names[one]}, pixel by pixel: {num:,}."


def _spread_rows(num_rows: int, *, num_samples: int) -> np.ndarray:
    """At most `num_samples` rows, ascending, in runs that start evenly over all rows."""
    if num_samples >= num_rows:
        return np.arange(num_rows)
    run_length = max(1, num_samples // _NUM_RUNS)
    starts = np.linspace(0, max(0, num_rows - run_length), min(_NUM_RUNS, num_samples)).astype(np.int64)
    rows = np.unique(starts[:, np.newaxis] + np.arange(run_length))
    return rows[rows < num_rows]


def _rows_per_label(contents: Contents) -> dict[int, int] | None:
    if contents.labels is None:
        return None
    labels, counts = np.unique(contents.labels[contents.labels != NO_LABEL], return_counts=True)
    return dict(zip(labels.tolist(), counts.tolist(), strict=True))


def _num_bytes(path: str) -> int | None:
    if path.startswith(("sklearn:", "torchvision:")):
        return None
    return sum(info.size or 0 for info in find_files(path).infos)
