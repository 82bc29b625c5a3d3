"""scikit-learn's 1,797 digits of 8x8 pixels, which it ships: no network, no file to prepare."""

from collections.abc import Iterator
from functools import partial
from importlib import metadata
from typing import Any

import numpy as np

from distmgcd.data.sources import pixels
from distmgcd.data.sources.source import Contents, Loader, made_split
from distmgcd.errors import UserError

DIGITS = "sklearn:digits"
_LARGEST_VALUE = 16
_TEST_EVERY = 5


class DigitsSource:
    """`sklearn:digits`: values 0 to 16 scaled by 255 / 16; every fifth image is held out as `test`."""

    path = DIGITS

    def identity(self) -> list[Any]:
        try:
            return [DIGITS, metadata.version("scikit-learn")]  # importing it takes a second
        except metadata.PackageNotFoundError:
            raise _missing() from None

    def contents(self) -> Contents:
        labels = _digits().target.astype(np.int64)
        names, codes, origin = made_split(len(labels), every=_TEST_EVERY)
        return Contents(
            layout="scikit-learn, raw 8x8", split_names=names, split_codes=codes, split_origin=origin,
            labels=labels, classes=tuple("0123456789"),
        )  # fmt: skip

    def place(self, row: int) -> str:
        return f"digit {row} of scikit-learn"

    def images(self, rows: np.ndarray) -> Iterator[tuple[int, Loader]]:
        values = np.rint(_digits().images * (255 / _LARGEST_VALUE)).astype(np.uint8)
        for row in rows.tolist():
            yield row, partial(pixels.from_raw, values[row], values.shape[1:])


def _digits() -> Any:
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise _missing() from None
    return load_digits()


def _missing() -> UserError:
    return UserError(f"data.path {DIGITS!r} needs scikit-learn, which is not installed; run: pip install scikit-learn")
