"""What every source of images offers, whatever it is stored as; and how its rows are decoded.

Rows are numbered from 0 in one fixed order over all files and splits of a source. An image that cannot be decoded is
skipped and listed; too many of them are a UserError."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from PIL import Image

from distmgcd.data.sources.splits import split_named
from distmgcd.environment import usable_cpus
from distmgcd.errors import UserError

_NUM_SHOWN = 3


class CorruptImage(Exception):
    """One image cannot be decoded; its text is the reason, in words."""


class SkippedRow(NamedTuple):
    """An image left out because it could not be decoded."""

    row: int  # its row number in the source, from 0
    reason: str
    place: str  # in words: its file, and the row within it

    def __str__(self) -> str:
        return f"{self.place} ({self.reason})"


def check_corrupt_limit(skipped: Sequence[SkippedRow], *, num_rows: int, max_corrupt: float, path: str) -> None:
    """Raise UserError if more than `max_corrupt` (a fraction) of the `num_rows` rows were skipped."""
    if len(skipped) <= max_corrupt * num_rows:
        return
    first = ", ".join(map(str, skipped[:_NUM_SHOWN]))
    more = ", ..." if len(skipped) > _NUM_SHOWN else ""
    raise UserError(
        f"data.max_corrupt allows a fraction of {max_corrupt:g} of the images to be corrupt, but "
        f"{len(skipped)} of {num_rows} in {path!r} are ({len(skipped) / num_rows:.2g}): {first}{more}; "
        "mend or remove these, or raise data.max_corrupt."
    )


def no_images(skipped: Sequence[SkippedRow], *, path: str) -> UserError:
    """The error for a source of which no image is left."""
    if not skipped:  # all were left out
        return UserError(
            f"All images of data.path {path!r} to train on are held out, too, so that data.leave_out_copies=true "
            "leaves none; let data.split and data.held_out name different images."
        )
    return UserError(f"data.path {path!r} has no image that can be decoded: {skipped[0]}; point it at images.")


def check_max_corrupt(max_corrupt: float) -> None:
    """Raise UserError unless the limit is a fraction."""
    if not 0 <= max_corrupt <= 1:
        raise UserError(
            f"data.max_corrupt must be a fraction from 0 to 1, but is {max_corrupt}; "
            f"for 0.1 % write data.max_corrupt=0.001."
        )


ALL_SPLITS = "all"
NO_LABEL = -1

# Decodes one image to Pillow mode L, LA, RGB or RGBA; raises CorruptImage. Called from any thread.
Loader = Callable[[], Image.Image]


@dataclass(frozen=True, kw_only=True)
class Contents:
    """All of a source but its pixels; R rows."""

    layout: str  # in words: how the images are stored
    split_names: tuple[str, ...]
    split_codes: np.ndarray  # int16 [R], positions in split_names
    split_origin: str  # in words: where the splits come from
    labels: np.ndarray | None  # int64 [R], NO_LABEL where a row has none; None if no row has one
    classes: tuple[str, ...] | None = None  # names of the labels 0, 1, ...
    notes: tuple[str, ...] = ()  # in words: what of the source is not read, one sentence each

    def __len__(self) -> int:
        return len(self.split_codes)

    def rows_per_split(self) -> dict[str, int]:
        counts = np.bincount(self.split_codes, minlength=len(self.split_names))
        return dict(zip(self.split_names, counts.tolist(), strict=True))


class Source(Protocol):
    """A set of images somewhere."""

    path: str  # as the user wrote it

    def identity(self) -> list[Any]:
        """JSON values that change when the images do; found without opening a file."""
        ...

    def contents(self) -> Contents:
        """Read everything but the pixels. Raises UserError."""
        ...

    def images(self, rows: np.ndarray) -> Iterator[tuple[int, Loader]]:
        """(row, loader) of the wanted rows, which must ascend; streams. Raises UserError."""
        ...

    def place(self, row: int) -> str:
        """Where the image is, in words: its file, and the row within it."""
        ...


def rows_of_split(contents: Contents, *, split: str, path: str, setting: str = "data.split") -> np.ndarray:
    """Row numbers (int64, ascending) of one split, or of all; setting: what names it in the message.

    Raises UserError if there is no such split.
    """
    if split == ALL_SPLITS:
        return np.arange(len(contents))
    if (name := split_named(split, contents.split_names)) is None:
        known = ", ".join(f"{name} ({count} images)" for name, count in contents.rows_per_split().items())
        raise UserError(f"{setting}={split!r} is not in {path!r}; it has {known}; {_way_out(contents, setting)}.")
    return np.flatnonzero(contents.split_codes == contents.split_names.index(name))


def _way_out(contents: Contents, setting: str) -> str:
    if setting == "data.held_out":
        others = [name for name in contents.split_names if split_named("train", [name]) is None]
        other = f"set {setting}={others[0]}, or " if others else ""
        return f"{other}set data.validation=0.2, which holds out a fifth of the training images instead"
    return f"set {setting} to one of these, or {setting}=all for every image"


def rows_of_part(rows: np.ndarray, part: tuple[float, float]) -> np.ndarray:
    """The rows, ascending, whose place in a fixed shuffled order lies in this range of fractions."""
    order = np.argsort(np.random.Philox(key=0).random_raw(len(rows)), kind="stable")
    first, last = (round(bound * len(rows)) for bound in part)
    return rows[np.sort(order[first:last])]


def rows_to_open(
    contents: Contents, *, split: str, part: tuple[float, float], path: str, setting: str = "data.split"
) -> np.ndarray:
    """Row numbers (int64, ascending) of this part of a split, one at least. Raises UserError."""
    whole = rows_of_split(contents, split=split, path=path, setting=setting)
    if len(whole) == 0:
        full = ", ".join(f"{name} ({count} images)" for name, count in contents.rows_per_split().items() if count)
        raise UserError(
            f"The split {split!r} of data.path {path!r} has no images, and at least one is needed; it has {full}: "
            "name one of these, or a data.path with images of that split."
        )
    rows = rows_of_part(whole, part)
    if len(rows) == 0:
        raise UserError(
            f"The split {split!r} of data.path {path!r} has {len(whole)} images, of which {in_percent(part)} are none, "
            "and at least one is needed; choose another data.validation, or give more images."
        )
    return rows


def in_percent(part: tuple[float, float]) -> str:
    return f"{100 * (part[1] - part[0]):g} %"


def named_splits(names_of_rows: Iterable[str]) -> tuple[tuple[str, ...], np.ndarray]:
    """(split_names in order of first appearance, split_codes) of a split's name for every row."""
    code_of: dict[str, int] = {}
    codes = [code_of.setdefault(name, len(code_of)) for name in names_of_rows]
    return tuple(code_of), np.array(codes, dtype=np.int16)


def made_split(num_rows: int, *, every: int) -> tuple[tuple[str, ...], np.ndarray, str]:
    """A split for a source that has none: row r is `test` where r % every == every - 1, else `train`.

    Returns (split_names, split_codes, split_origin).
    """
    codes = (np.arange(num_rows) % every == every - 1).astype(np.int16)
    names = ("train", "test") if codes.any() else ("train",)
    return names, codes, f"made here: the source has no held-out images, so every {every}th row is test, the rest train"


_NUM_ROWS_PER_TASK = 64
_MOST_THREADS = 8

Prepared = TypeVar("Prepared")
_Task = list[tuple[int, Loader]]


def decode_rows(
    source: Source, rows: np.ndarray, prepare: Callable[[int, Image.Image], Prepared]
) -> Iterator[tuple[int, Prepared] | SkippedRow]:
    """For every wanted row, in order: (row, prepare(row, image)), or a SkippedRow if the image is corrupt.

    `rows` must ascend. Holds at most 512 images at a time. `prepare` runs on any thread.
    """

    def run(task: _Task) -> list[tuple[int, Prepared] | SkippedRow]:
        return [_decode_row(source, row, loader, prepare) for row, loader in task]

    num_threads = min(usable_cpus(), _MOST_THREADS)
    loaders = source.images(rows)
    tasks = iter(lambda: list(islice(loaders, _NUM_ROWS_PER_TASK)), [])
    with ThreadPoolExecutor(num_threads) as pool:  # Pillow decodes and resizes without the interpreter's lock
        while group := list(islice(tasks, num_threads)):
            for decoded in pool.map(run, group):
                yield from decoded


def _decode_row(
    source: Source, row: int, loader: Loader, prepare: Callable[[int, Image.Image], Prepared]
) -> tuple[int, Prepared] | SkippedRow:
    try:
        return row, prepare(row, loader())
    except CorruptImage as error:
        return SkippedRow(row, str(error), source.place(row))
