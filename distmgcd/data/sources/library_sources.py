"""Images of Python packages: scikit-learn's 1,797 digits of 8x8 pixels (`sklearn:digits`) and torchvision's data sets
for image classification (`torchvision:NAME` or `torchvision:NAME?root=FOLDER`).

The query of the latter may also say download=1 (the only way anything is fetched from the network) and give any other
argument of the class, such as `torchvision:EMNIST?split=letters`. Most of these classes hold all their images
in memory, so they do here too, until the cache is built.
"""

import gzip
import inspect
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
from PIL import Image

from distmgcd.data.cache_folder import default_cache_dir
from distmgcd.data.sources import pixels
from distmgcd.data.sources.find_files import find_files
from distmgcd.data.sources.source import NO_LABEL, Contents, CorruptImage, Loader, made_split, named_splits
from distmgcd.environment import absolute
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


PREFIX = "torchvision:"
_SPLITS = ("train", "trainval", "val", "valid", "test")
_LABEL_ATTRIBUTES = ("targets", "labels", "_labels")
_IDX_FILE = "train-images-idx3-ubyte"


class TorchvisionSource:
    """Its splits one after another, in the order train, val, test."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._name, _, query = path.removeprefix(PREFIX).partition("?")
        self._arguments = dict(parse_qsl(query, keep_blank_values=True))
        root = self._arguments.pop("root", None)
        self._root = absolute(root) if root else default_cache_dir() / "torchvision"
        self._download = self._arguments.pop("download", "0") in ("1", "true", "True")

    def identity(self) -> list[Any]:
        try:
            version = metadata.version("torchvision")  # importing it takes seconds
        except metadata.PackageNotFoundError:
            raise _not_installed(self.path) from None
        if not self._download and not self._root.is_dir():
            raise self._missing("there is no such folder")
        files = find_files(str(self._root)).identity() if self._root.is_dir() and any(self._root.iterdir()) else []
        # A download changes the folder, which must not make a second process look for another entry.
        return ["torchvision", version, self.path, [] if self._download else files]

    def contents(self) -> Contents:
        names, codes = named_splits(name for name, dataset in self._datasets.items() for _ in range(len(dataset)))
        classes = getattr(next(iter(self._datasets.values())), "classes", None)
        return Contents(
            layout=f"torchvision {self._name}", split_names=names, split_codes=codes,
            split_origin="torchvision's own", labels=self._labels(),
            classes=tuple(map(str, classes)) if classes else None,
        )  # fmt: skip

    def place(self, row: int) -> str:
        for name, dataset in self._datasets.items():
            if row < len(dataset):
                return f"item {row} of its split {name}"
            row -= len(dataset)
        raise IndexError(row)

    def images(self, rows: np.ndarray) -> Iterator[tuple[int, Loader]]:
        start = 0
        for dataset in self._datasets.values():
            for row in rows[(rows >= start) & (rows < start + len(dataset))].tolist():
                yield row, partial(_load, dataset, row - start)
            start += len(dataset)

    def _labels(self) -> np.ndarray:
        """Labels without decoding where the data set lists them, else by reading every item."""
        labels: list[int] = []
        for dataset in self._datasets.values():
            name = next((name for name in _LABEL_ATTRIBUTES if hasattr(dataset, name)), None)
            listed = getattr(dataset, name) if name else (label for _, label in dataset)
            labels.extend(NO_LABEL if label is None else int(label) for label in listed)
        return np.array(labels, dtype=np.int64)

    @cached_property
    def _datasets(self) -> dict[str, Any]:
        """The data set of each split that the class knows."""
        kind = self._class()
        with _readable_root(self._root, name=self._name) as root:
            if "train" in _argument_names(kind):
                return {name: self._construct(kind, root, train=name == "train") for name in ("train", "test")}
            found = {name: self._construct_split(kind, root, split=name) for name in _SPLITS}
        found = {name: dataset for name, dataset in found.items() if dataset is not None}
        if "train" in found:
            found.pop("trainval", None)  # it holds the same images again
        if not found:
            known = ", ".join(_SPLITS)
            raise UserError(f"data.path {self.path!r} has none of the splits {known}; import its images as files.")
        return found

    def _class(self) -> type:
        try:
            from torchvision import datasets
        except ImportError:
            raise _not_installed(self.path) from None
        kind: Any = getattr(datasets, self._name, None)
        if not _is_usable(kind):
            usable = [name for name in datasets.__all__ if _is_usable(getattr(datasets, name))]
            raise UserError(
                f"data.path {self.path!r} must name a data set of torchvision with a root and a train or split "
                f"argument, but {self._name!r} is none; there are {', '.join(sorted(usable))}."
            )
        return kind

    def _construct_split(self, kind: type, root: Path, *, split: str) -> Any | None:
        try:
            return self._construct(kind, root, split=split)
        except ValueError:  # how these classes say that they have no such split
            return None

    def _construct(self, kind: type, root: Path, **split: Any) -> Any:
        download = {"download": True} if self._download else {}
        try:
            dataset = kind(root, **{**self._arguments, **split, **download})
        except (RuntimeError, OSError) as error:
            raise self._missing(str(error).strip() or type(error).__name__) from error
        except (TypeError, ImportError) as error:
            raise UserError(
                f"data.path {self.path!r} does not fit torchvision's {self._name} ({error}); give its arguments as "
                f"{PREFIX}{self._name}?root=FOLDER&argument=value and install what it needs."
            ) from error
        self._check_item(dataset)
        return dataset

    def _check_item(self, dataset: Any) -> None:
        image, label = dataset[0]
        if not isinstance(image, Image.Image) or not (label is None or isinstance(label, (int, np.integer))):
            raise UserError(
                f"data.path {self.path!r} must be for image classification, but an item of torchvision's {self._name} "
                f"is ({type(image).__name__}, {type(label).__name__}); choose a data set of images and labels."
            )

    def _missing(self, reason: str) -> UserError:
        return UserError(
            f"data.path {self.path!r}: torchvision's {self._name} was looked for in {str(self._root)!r} ({reason}); "
            f"give the folder that holds it, {PREFIX}{self._name}?root=FOLDER, or add download=1 to fetch it."
        )


def _load(dataset: Any, position: int) -> Image.Image:
    try:
        image, _ = dataset[position]
    except (OSError, SyntaxError, ValueError) as error:
        raise CorruptImage(f"does not decode ({type(error).__name__}: {error})") from error
    return pixels.to_eight_bits(image)


def _argument_names(kind: type) -> set[str]:
    """Arguments of the class; where it passes on **others, those of its parents too."""
    names: set[str] = set()
    for ancestor in inspect.getmro(kind)[:-1]:
        parameters = inspect.signature(ancestor.__init__).parameters
        names.update(parameters)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            break
    return names


def _is_usable(kind: Any) -> bool:
    return inspect.isclass(kind) and {"root"} < _argument_names(kind) & {"root", "train", "split"}


@contextmanager
def _readable_root(root: Path, *, name: str) -> Iterator[Path]:
    """`root`, or a temporary folder laid as torchvision wants if it holds the bare idx files of an MNIST-like set."""
    packed = sorted([*root.glob("*-ubyte"), *root.glob("*-ubyte.gz")]) if root.is_dir() else []
    if not any(file.name.startswith(_IDX_FILE) for file in packed):
        yield root
        return
    with tempfile.TemporaryDirectory(prefix="distmgcd-torchvision-") as folder:
        raw = Path(folder, name, "raw")
        raw.mkdir(parents=True)
        for file in packed:
            _unpack(file, raw / file.name.removesuffix(".gz"))
        yield Path(folder)


def _unpack(file: Path, target: Path) -> None:
    if file.suffix != ".gz":
        target.unlink(missing_ok=True)
        target.symlink_to(file.absolute())
        return
    with gzip.open(file) as packed, target.open("wb") as unpacked:
        shutil.copyfileobj(packed, unpacked)


def _not_installed(path: str) -> UserError:
    return UserError(f"data.path {path!r} needs torchvision, which is not installed; run: pip install torchvision")
