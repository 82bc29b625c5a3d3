"""Images decoded once per node into a memory-mapped file that all its processes share.

An entry is a folder named after the fingerprint of (the source's files, their sizes and times; image size,
channels, split and all else that changes pixels; format version):

    images.u8    uint8 [N, C, S, S], nothing else
    labels.npy   int64 [N], absent if there are none
    rows.npy     int64 [N]
    hashes.npy   uint64 [N], of the pixels of each image, by which copies in another split are found
    entry.json   written last: N, the corrupt rows, the content (a hash of all pixels) and the rest

It is built under a lock in a folder of another name and then renamed, so that a complete entry is opened
without the lock. Corrupt rows are part of an entry and their limit is checked when it is opened: too many of
them fail at once in every process and after every restart, without decoding again. An entry stays until it is
deleted (cache_folder.py), which is refused while a process has it open.
"""

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from distmgcd.data.cache_folder import (
    DESCRIPTION,
    IMAGES,
    UNFINISHED,
    VARIABLE,
    default_cache_dir,
    lock_of,
    locked,
    pinned,
    read_array,
    read_description,
    writable,
)
from distmgcd.data.image_set import ImageSet, Look, Noticed, content_of, hash_of_pixels, look_at
from distmgcd.data.sources import pixels
from distmgcd.data.sources.open_source import open_source
from distmgcd.data.sources.source import (
    SkippedRow,
    Source,
    check_corrupt_limit,
    check_max_corrupt,
    decode_rows,
    in_percent,
    no_images,
    rows_to_open,
)
from distmgcd.data.sources.splits import split_named
from distmgcd.errors import UserError

_FORMAT_VERSION = 3
_logger = logging.getLogger(__name__)


def open_images(
    path: str,
    *,
    image_size: int,
    channels: int,
    split: str,
    part: tuple[float, float] = (0.0, 1.0),
    pad: int = 0,
    background: str = "black",
    without: np.ndarray | None = None,
    max_corrupt: float = 0.001,
    setting: str = "data.split",
    cache_dir: Path | None = None,
) -> ImageSet:
    """Open one split ("all": every image) of `path`, decoding it first if no process of this node has yet.

    path: a Parquet file, a folder or glob of them, a folder of images, `sklearn:digits` or `torchvision:NAME`.
    image_size: pixels per side of every image; centre squares are enlarged or averaged to it.
    channels: 1 or 3, which the images must have already.
    part: which part of the split, as a range of fractions of a fixed shuffled order of its rows: (0.9, 1) and
        (0, 0.9) share no image and mix the classes alike.
    pad: pixels of the background added on each side before that, so that 28x28 can become 32x32 and halve exactly.
    background: the colour behind transparent images: black, white or "#rrggbb".
    without: uint64 hashes (`ImageSet.hashes`) of images that are left out.
    max_corrupt: the largest fraction of rows that may fail to decode; these are skipped and listed.
    setting: the name of the setting that `split` comes from, for messages.
    cache_dir: where decoded images are kept; $DISTMGCD_CACHE or ~/.cache/distmgcd if None.

    Raises UserError if the source is missing, empty, of other channels or too corrupt, or has no such split.
    """
    _check_settings(image_size=image_size, channels=channels, max_corrupt=max_corrupt)
    source = open_source(path)
    folder = default_cache_dir() if cache_dir is None else Path(cache_dir)
    wanted = Wanted(
        image_size=image_size,
        channels=channels,
        split=split,
        part=part,
        pad=pad,
        background=background,
        without=np.zeros(0, np.uint64) if without is None else without,
    )
    identity = json.dumps([_FORMAT_VERSION, source.identity(), *wanted.identity()])
    entry = folder / hashlib.sha256(identity.encode()).hexdigest()[:32]
    find = partial(_open_entry, entry, path=path, max_corrupt=max_corrupt)
    if (images := find()) is not None:
        return images
    with writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(lock_of(entry)):
        if (images := find()) is None:
            build(entry, source, wanted, setting=setting)
            images = find()
    if images is None:
        raise UserError(
            f"The decoded images in {str(entry)!r} are not there as they were written; set {VARIABLE} to a folder on a "
            "local disk."
        )
    return images


def _check_settings(*, image_size: int, channels: int, max_corrupt: float) -> None:
    if image_size < 1:
        raise UserError(f"data.image_size must be at least 1 pixel, but is {image_size}; set data.image_size=64, say.")
    if channels not in (1, 3):
        raise UserError(f"data.channels must be 1 (grey) or 3 (colour), but is {channels}; set one of these.")
    check_max_corrupt(max_corrupt)


def _open_entry(entry: Path, *, path: str, max_corrupt: float) -> ImageSet | None:
    """The images of a complete entry; None if it is absent or damaged. Raises UserError."""
    pixels = pinned(entry / IMAGES)  # first: after this no process deletes the entry
    if (description := read_description(entry)) is None:
        return None
    skipped = tuple(SkippedRow(*item) for item in description["skipped"])
    check_corrupt_limit(skipped, num_rows=description["num_rows"], max_corrupt=max_corrupt, path=path)
    shape = tuple(description["shape"])
    if shape[0] == 0:
        raise no_images(skipped, path=path)
    if pixels is None:
        return None
    with suppress(OSError):  # the cache of another user, say
        os.utime(entry / DESCRIPTION)  # when it was last used, for `distmgcd data cache`
    return ImageSet(
        images=pixels.reshape(shape),
        labels=read_array(entry / "labels.npy") if "labels.npy" in description["num_bytes"] else None,
        rows=read_array(entry / "rows.npy"),
        hashes=read_array(entry / "hashes.npy"),
        skipped=skipped,
        classes=tuple(description["classes"]) if description["classes"] else None,
        path=path,
        split=description["split"],
        split_origin=description["split_origin"],
        splits=description.get("splits"),
        fingerprint=entry.name,
        content=description["content"],
        notes=tuple(description["notes"]),
    )


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
