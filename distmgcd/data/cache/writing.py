"""Building an entry of the cache: decoding the images of a split, and what is noticed of them on the way."""

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from distmgcd.data.cache.folder import DESCRIPTION, IMAGES, UNFINISHED, writable
from distmgcd.data.image_set import content_of, hash_of_pixels
from distmgcd.data.notices import Look, Noticed, look_at
from distmgcd.data.sources import pixels
from distmgcd.data.sources.corrupt import SkippedRow
from distmgcd.data.sources.decoding import decode_rows
from distmgcd.data.sources.source import Source, in_percent, rows_to_open
from distmgcd.data.sources.splits import split_named
from distmgcd.errors import UserError

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which images of a source are wanted, and how. See `open_images`."""

    image_size: int
    channels: int
    split: str
    part: tuple[float, float]
    pad: int
    background: str
    without: np.ndarray = field(repr=False)  # uint64: hashes of images that are left out

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one image, [C, S, S]."""
        return self.channels, self.image_size, self.image_size

    @property
    def split_in_words(self) -> str:
        return self.split if self.part == (0.0, 1.0) else f"{self.split}, {in_percent(self.part)} of it"

    def identity(self) -> list[Any]:
        """JSON values that differ where the pixels would."""
        without = hashlib.sha256(np.sort(self.without).tobytes()).hexdigest() if len(self.without) else None
        return [self.image_size, self.channels, self.split, self.pad, *self.part, self.background, without]


def build(entry: Path, source: Source, wanted: Wanted, *, setting: str) -> None:
    """Decode the split into a new entry, in place of a damaged one if there is one; the lock must be held.

    setting: what names the split, in messages.
    """
    start_seconds = time.monotonic()
    contents = source.contents()
    rows = rows_to_open(contents, split=wanted.split, part=wanted.part, path=source.path, setting=setting)
    wanted = replace(wanted, split=split_named(wanted.split, contents.split_names) or wanted.split)  # as it is called
    _logger.info("Decoding %d images of %s [%s] into %s", len(rows), source.path, wanted.split, entry)
    unfinished = entry.with_suffix(UNFINISHED)
    with writable(entry.parent):
        for left_over in (entry, unfinished):  # damaged, or of a process that was killed
            shutil.rmtree(left_over, ignore_errors=True)
        unfinished.mkdir()
    try:
        written = _write_images(unfinished, source, rows, wanted)
        with writable(entry.parent):
            description = {
                "shape": [len(written.rows), *wanted.shape],
                "num_rows": len(rows),
                "skipped": written.skipped,
                "content": content_of(written.hashes, wanted.shape),
                "classes": contents.classes,
                "source": source.path,
                "split": wanted.split_in_words,
                "split_origin": contents.split_origin,
                "splits": contents.rows_per_split(),
                "notes": [*contents.notes, *written.notes],
            }
            arrays = {"rows": written.rows, "hashes": written.hashes}
            if contents.labels is not None:
                arrays["labels"] = contents.labels[written.rows]
            _finish(unfinished, entry, description=description, arrays=arrays)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    _logger.info("Decoded %d images in %.1f seconds", len(written.rows), time.monotonic() - start_seconds)


class _Written(NamedTuple):
    """What images.u8 holds, and what was left out of it."""

    rows: np.ndarray  # int64 [N]
    hashes: np.ndarray  # uint64 [N]
    skipped: list[SkippedRow]
    notes: Sequence[str]


def _write_images(folder: Path, source: Source, rows: np.ndarray, wanted: Wanted) -> _Written:
    """Write images.u8 in the order of the rows."""

    def prepare(row: int, image: Image.Image) -> tuple[bytes, int, Look]:
        _check_channels(image, channels=wanted.channels, row=row, source=source)
        flat = pixels.over(image, wanted.background)
        framed = pixels.padded(flat, wanted.pad, wanted.background)
        stored = pixels.to_array(pixels.fit(framed, wanted.image_size)).tobytes()
        return stored, hash_of_pixels(stored), look_at(image, flat)

    kept, hashes, skipped, noticed = [], [], [], Noticed(wanted.split_in_words)
    without = frozenset(wanted.without.tolist())
    decoded = decode_rows(source, rows, prepare)
    with writable(folder.parent), (folder / IMAGES).open("wb") as file:
        for item in decoded:
            if isinstance(item, SkippedRow):
                skipped.append(item)
                continue
            row, (stored, hash_of_image, look) = item
            if hash_of_image in without:
                noticed.num_left_out += 1
                continue
            noticed.add(hash_of_image, look)
            kept.append(row)
            hashes.append(hash_of_image)
            file.write(stored)
        _to_disk(file)
    return _Written(
        np.array(kept, np.int64), np.array(hashes, np.uint64), skipped, noticed.notes(background=wanted.background)
    )


def _check_channels(image: Image.Image, *, channels: int, row: int, source: Source) -> None:
    found = pixels.num_channels(image)
    if found != channels:
        raise UserError(
            f"data.channels={channels} asks for {pixels.kind_of(channels)} images, but {source.place(row)} is "
            f"{pixels.kind_of(found)} (data.path {source.path!r}); set data.channels={found} if all are, or make all "
            f"one kind with `distmgcd data import SOURCE DEST.parquet --channels {channels}`."
        )


def _finish(unfinished: Path, entry: Path, *, description: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Write the small files and give the entry its name, after which any process may open it."""
    for name, values in arrays.items():
        with (unfinished / f"{name}.npy").open("wb") as file:
            np.save(file, values)
            _to_disk(file)
    description["num_bytes"] = {file.name: file.stat().st_size for file in unfinished.iterdir()}
    with (unfinished / DESCRIPTION).open("w") as file:
        json.dump(description, file, indent=1)
        _to_disk(file)
    unfinished.rename(entry)


def _to_disk(file: Any) -> None:
    """Without this a power failure could leave a file of the right size and the wrong contents."""
    file.flush()
    os.fsync(file.fileno())
