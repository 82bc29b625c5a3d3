"""Images as files in a folder.

The folders at the top are splits if one of them is called train, test, val or the like; the next level, or
the top where there are no splits, are labels, numbered by their sorted names. Below that, folders mean
nothing. Hidden files are left out.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from distmgcd.data import pixels
from distmgcd.data.files import Files, unreadable
from distmgcd.data.source import NO_LABEL, SPLIT_FOLDERS, Contents, Loader, made_split, named_splits
from distmgcd.errors import UserError

IMAGE_EXTENSIONS = frozenset({"jpg", "jpeg", "png", "bmp", "gif", "webp", "tif", "tiff"})
_TEST_EVERY = 10


class FolderSource:
    """A folder of image files, on any file system pyarrow knows, in the order of their paths."""

    def __init__(self, path: str, files: Files) -> None:
        self.path = path
        self._files = files

    def identity(self) -> list[Any]:
        return ["folder", self._files.identity()]

    def contents(self) -> Contents:
        folders = [self._files.relative(info).split("/")[:-1] for info in self._files.infos]
        if any(parts and parts[0].lower() in SPLIT_FOLDERS for parts in folders):
            self._check_all_in_splits(folders)
            names, codes = named_splits(parts[0] for parts in folders)
            origin = "folders at the top"
            folders = [parts[1:] for parts in folders]
        else:
            names, codes, origin = made_split(len(folders), every=_TEST_EVERY)
        labels, classes = _labels([parts[0] if parts else None for parts in folders])
        return Contents(
            layout="folder of image files", split_names=names, split_codes=codes, split_origin=origin,
            labels=labels, classes=classes,
        )  # fmt: skip

    def images(self, rows: np.ndarray) -> Iterator[tuple[int, Loader]]:
        for row in rows.tolist():
            yield row, partial(self._load, row)

    def _load(self, row: int) -> Image.Image:
        path = self._files.infos[row].path
        try:
            with self._files.file_system.open_input_file(path) as file:
                encoded = file.read()
        except OSError as error:  # the file, not its image, is the trouble: skipping would hide it
            raise unreadable(path, error) from error
        return pixels.decode(encoded)

    def _check_all_in_splits(self, folders: list[list[str]]) -> None:
        outside = next((row for row, parts in enumerate(folders) if not parts), None)
        if outside is not None:
            raise UserError(
                f"data.path {self.path!r} has folders for splits, so every image must be in one, but "
                f"{self._files.infos[outside].path!r} is not; move it into one of them."
            )


def _labels(names: list[str | None]) -> tuple[np.ndarray | None, tuple[str, ...] | None]:
    classes = tuple(sorted({name for name in names if name is not None}))
    if not classes:
        return None, None
    code_of = {name: code for code, name in enumerate(classes)}
    return np.array([code_of.get(name, NO_LABEL) for name in names], dtype=np.int64), classes
