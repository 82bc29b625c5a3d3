"""Images as files in a folder.

Where their names say so (splits.py), files have splits. The first folder below the split, else the first of all, is the
label, numbered by sorted names. Below that, folders mean nothing. Hidden files are left out.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from distmgcd.data.sources import pixels
from distmgcd.data.sources.find_files import Files, unreadable
from distmgcd.data.sources.source import NO_LABEL, Contents, Loader, made_split, named_splits
from distmgcd.data.sources.splits import splits_of_files

_EXTENSIONS = (
    ".jpg .jpeg .jpe .jfif .png .apng .bmp .dib .gif .webp .avif .tif .tiff .ppm .pgm .pbm .pnm .tga .jp2 .j2k"
)
IMAGE_EXTENSIONS = frozenset(_EXTENSIONS.replace(".", "").split())
_TEST_EVERY = 10


class FolderSource:
    """A folder of image files, on any file system pyarrow knows, in the order of their paths."""

    def __init__(self, path: str, files: Files, *, notes: tuple[str, ...] = ()) -> None:
        self.path = path
        self._files = files
        self._notes = notes

    def identity(self) -> list[Any]:
        return ["folder", self._files.identity()]

    def contents(self) -> Contents:
        names_of_files = [self._files.relative(info) for info in self._files.infos]
        if (found := splits_of_files(names_of_files, pictures=True, source=self.path)) is not None:
            (names, codes), origin, folders = named_splits(found.names), found.origin, found.folders
        else:
            names, codes, origin = made_split(len(names_of_files), every=_TEST_EVERY)
            folders = [name.split("/")[:-1] for name in names_of_files]
        labels, classes = _labels([parts[0] if parts else None for parts in folders])
        return Contents(
            layout="folder of image files", split_names=names, split_codes=codes, split_origin=origin,
            labels=labels, classes=classes, notes=self._notes,
        )  # fmt: skip

    def place(self, row: int) -> str:
        return self._files.infos[row].path

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


def _labels(names: list[str | None]) -> tuple[np.ndarray | None, tuple[str, ...] | None]:
    classes = tuple(sorted({name for name in names if name is not None}))
    if not classes:
        return None, None
    code_of: dict[str | None, int] = {name: code for code, name in enumerate(classes)}
    return np.array([code_of.get(name, NO_LABEL) for name in names], dtype=np.int64), classes
