"""Images decoded once per node into a memory-mapped file that all its processes share.

An entry is a folder named after the fingerprint of (the source's files, their sizes and times; image size;
channels; split; format version):

    images.u8    uint8 [N, C, S, S], nothing else
    labels.npy   int64 [N], absent if there are none
    rows.npy     int64 [N]
    hashes.npy   uint64 [N], of the pixels of each image, by which two splits are held apart
    entry.json   written last: N, the corrupt rows, the content (a hash of all pixels) and the rest

It is built under a lock in a folder of another name and then renamed, so that a complete entry is opened
without the lock. Corrupt rows are part of an entry and their limit is checked when it is opened: too many of
them fail at once in every process and after every restart, without decoding again. An entry stays until somebody
deletes it, see cache_entries.py, and that is refused while a process has it open.
"""

import hashlib
import json
import logging
import os
import shutil
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from distmgcd.data import pixels
from distmgcd.data.address import open_source
from distmgcd.data.cache_folder import (
    DESCRIPTION,
    IMAGES,
    UNFINISHED,
    VARIABLE,
    default_cache_dir,
    lock_of,
    locked,
    pinned,
    writable,
)
from distmgcd.data.corrupt import SkippedRow, check_corrupt_limit, check_max_corrupt
from distmgcd.data.decoding import decode_rows
from distmgcd.data.image_set import ImageSet, hash_of_pixels
from distmgcd.data.source import Source, in_percent, rows_to_open
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
    max_corrupt: float = 0.001,
    cache_dir: Path | None = None,
) -> ImageSet:
    """Open one split ("all": every image) of `path`, decoding it first if no process of this node has yet.

    path: a Parquet file, a folder or glob of them, a folder of images, `sklearn:digits` or `torchvision:NAME`.
    image_size: pixels a side of every image; centre squares are enlarged or averaged to it.
    channels: 1 or 3, which the images must have already.
    part: which part of the split, as a range of fractions of a fixed shuffled order of its rows: (0.9, 1) and
        (0, 0.9) share no image and mix the classes alike.
    pad: black pixels added on each side before that, so that 28x28 can become 32x32 and halve exactly.
    max_corrupt: the largest fraction of rows that may fail to decode; these are skipped and listed.
    cache_dir: where decoded images are kept; $DISTMGCD_CACHE or ~/.cache/distmgcd if None.

    Raises UserError if the source is missing, empty, of other channels or too corrupt, or has no such split.
    """
    _check_settings(image_size=image_size, channels=channels, max_corrupt=max_corrupt)
    source = open_source(path)
    folder = default_cache_dir() if cache_dir is None else Path(cache_dir)
    fingerprint = _fingerprint(
        [_FORMAT_VERSION, source.identity(), image_size, channels, split, pad, *([] if part == (0.0, 1.0) else part)]
    )
    entry = folder / fingerprint
    find = partial(_open_entry, entry, path=path, max_corrupt=max_corrupt)
    if (images := find()) is not None:
        return images
    with writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(lock_of(entry)):
        if (images := find()) is None:
            _build(entry, source, image_size=image_size, channels=channels, split=split, part=part, pad=pad)
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


def _fingerprint(what: list[Any]) -> str:
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32]


def _read_description(entry: Path) -> dict[str, Any] | None:
    """entry.json of a complete entry; None if it is absent or damaged (a file missing or of the wrong size).

    And of an entry of no row at all, such as earlier versions built: to build it says what is wrong.
    """
    try:
        description = json.loads((entry / DESCRIPTION).read_text())
        sizes = {name: (entry / name).stat().st_size for name in description["num_bytes"]}
        num_rows = description["num_rows"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return description if num_rows and sizes == description["num_bytes"] else None


def _build(
    entry: Path,
    source: Source,
    *,
    image_size: int,
    channels: int,
    split: str,
    part: tuple[float, float],
    pad: int,
) -> None:
    """Decode the split into a new entry, in place of a damaged one if there is one; the lock must be held."""
    start_seconds = time.monotonic()
    contents = source.contents()
    rows = rows_to_open(contents, split=split, part=part, path=source.path)
    _logger.info("Decoding %d images of %s [%s] into %s", len(rows), source.path, split, entry)
    unfinished = entry.with_suffix(UNFINISHED)
    with writable(entry.parent):
        for left_over in (entry, unfinished):  # damaged, or of a process that was killed
            shutil.rmtree(left_over, ignore_errors=True)
        unfinished.mkdir()
    try:
        written = _write_images(unfinished, source, rows=rows, image_size=image_size, channels=channels, pad=pad)
        with writable(entry.parent):
            kept = np.array(written.rows, dtype=np.int64)
            arrays = {"rows": kept, "hashes": np.array(written.hashes, dtype=np.uint64)}
            if contents.labels is not None:
                arrays["labels"] = contents.labels[kept]
            description = {
                "shape": [len(kept), channels, image_size, image_size],
                "num_rows": len(rows),
                "skipped": written.skipped,
                "content": written.content,
                "classes": contents.classes,
                "source": source.path,
                "split": split if part == (0.0, 1.0) else f"{split}, {in_percent(part)} of it",
                "split_origin": contents.split_origin,
            }
            _finish(unfinished, entry, description=description, arrays=arrays)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    _logger.info("Decoded %d images in %.1f seconds", len(written.rows), time.monotonic() - start_seconds)


class _Written(NamedTuple):
    """What images.u8 holds, and what was left out of it."""

    rows: list[int]
    hashes: list[int]
    content: str
    skipped: list[SkippedRow]


def _write_images(
    folder: Path, source: Source, *, rows: np.ndarray, image_size: int, channels: int, pad: int
) -> _Written:
    """Write images.u8 in the order of the rows."""

    def prepare(row: int, image: Image.Image) -> tuple[bytes, int]:
        _check_channels(image, channels=channels, row=row, path=source.path)
        stored = pixels.to_array(pixels.fit(pixels.padded(image, pad), image_size)).tobytes()
        return stored, hash_of_pixels(stored)

    kept, hashes, skipped = [], [], []
    content = hashlib.sha256(f"uint8 {channels}x{image_size}x{image_size} ".encode())
    decoded = decode_rows(source, rows, prepare)
    with writable(folder.parent), (folder / IMAGES).open("wb") as file:
        for item in decoded:
            if isinstance(item, SkippedRow):
                skipped.append(item)
                continue
            row, (stored, hash_of_image) = item
            kept.append(row)
            hashes.append(hash_of_image)
            content.update(stored)
            file.write(stored)
        _to_disk(file)
    return _Written(kept, hashes, content.hexdigest(), skipped)


def _check_channels(image: Image.Image, *, channels: int, row: int, path: str) -> None:
    found = pixels.num_channels(image)
    if found != channels:
        raise UserError(
            f"data.channels={channels} asks for {pixels.kind_of(channels)} images, but row {row} of {path!r} is "
            f"{pixels.kind_of(found)}; set data.channels={found}, or convert them with "
            f"`distmgcd data import --channels {channels}`."
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


def _open_entry(entry: Path, *, path: str, max_corrupt: float) -> ImageSet | None:
    """The images of a complete entry; None if it is absent or damaged. Raises UserError."""
    pixels = pinned(entry / IMAGES)  # first: what is read after that nobody deletes
    if (description := _read_description(entry)) is None:
        return None
    skipped = tuple(SkippedRow(row, reason) for row, reason in description["skipped"])
    check_corrupt_limit(skipped, num_rows=description["num_rows"], max_corrupt=max_corrupt, path=path)
    shape = tuple(description["shape"])
    if shape[0] == 0:
        reason = skipped[0].reason
        raise UserError(f"data.path {path!r} has no image that can be decoded ({reason}); point it at images.")
    if pixels is None:
        return None
    with suppress(OSError):  # the cache of another user, say
        os.utime(entry / DESCRIPTION)  # when it was last used, for whoever makes room
    return ImageSet(
        images=pixels.reshape(shape),
        labels=_load(entry / "labels.npy") if "labels.npy" in description["num_bytes"] else None,
        rows=_load(entry / "rows.npy"),
        hashes=_load(entry / "hashes.npy"),
        skipped=skipped,
        classes=tuple(description["classes"]) if description["classes"] else None,
        path=path,
        split=description["split"],
        split_origin=description["split_origin"],
        fingerprint=entry.name,
        content=description["content"],
    )


def _load(file: Path) -> np.ndarray:
    values = np.load(file)
    values.setflags(write=False)
    return values
