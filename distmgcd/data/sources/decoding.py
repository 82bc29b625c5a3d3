"""Decoding the rows of a source, in order, on all cores."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import numpy as np
from PIL import Image

from distmgcd.data.sources.corrupt import CorruptImage, SkippedRow
from distmgcd.data.sources.source import Loader, Source
from distmgcd.environment import usable_cpus

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
