"""Images decoded once per node into a memory-mapped file that all its processes share.

An entry is a folder named after the fingerprint of (the source's files, their sizes and times; image size,
channels, split and all else that changes pixels; format version):

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
import os
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from distmgcd.data.cache.folder import (
    DESCRIPTION,
    IMAGES,
    VARIABLE,
    default_cache_dir,
    lock_of,
    locked,
    pinned,
    writable,
)
from distmgcd.data.cache.writing import Wanted, build
from distmgcd.data.image_set import ImageSet
from distmgcd.data.sources.corrupt import SkippedRow, check_corrupt_limit, check_max_corrupt
from distmgcd.data.sources.open_source import open_source
from distmgcd.errors import UserError

_FORMAT_VERSION = 3


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
    image_size: pixels a side of every image; centre squares are enlarged or averaged to it.
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
    entry = folder / _fingerprint([_FORMAT_VERSION, source.identity(), *wanted.identity()])
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


def _open_entry(entry: Path, *, path: str, max_corrupt: float) -> ImageSet | None:
    """The images of a complete entry; None if it is absent or damaged. Raises UserError."""
    pixels = pinned(entry / IMAGES)  # first: what is read after that nobody deletes
    if (description := _read_description(entry)) is None:
        return None
    skipped = tuple(SkippedRow(*item) for item in description["skipped"])
    check_corrupt_limit(skipped, num_rows=description["num_rows"], max_corrupt=max_corrupt, path=path)
    shape = tuple(description["shape"])
    if shape[0] == 0:
        raise _no_images(skipped, path=path)
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
        splits=description.get("splits"),
        fingerprint=entry.name,
        content=description["content"],
        notes=tuple(description["notes"]),
    )


def _no_images(skipped: Sequence[SkippedRow], *, path: str) -> UserError:
    if not skipped:  # all were left out
        return UserError(
            f"All images of data.path {path!r} to train on are held out, too, so that data.leave_out_copies=true "
            "leaves none; let data.split and data.held_out name different images."
        )
    return UserError(f"data.path {path!r} has no image that can be decoded: {skipped[0]}; point it at images.")


def _load(file: Path) -> np.ndarray:
    values = np.load(file)
    values.setflags(write=False)
    return values
