"""Which source an address means: the one way from data.path to a Source."""

from collections import Counter

from pyarrow.fs import FileInfo

from distmgcd.data.sources.find_files import Files, find_files
from distmgcd.data.sources.image_folder import IMAGE_EXTENSIONS, FolderSource
from distmgcd.data.sources.library_sources import DIGITS, DigitsSource, TorchvisionSource
from distmgcd.data.sources.library_sources import PREFIX as TORCHVISION_PREFIX
from distmgcd.data.sources.parquet_file import ParquetSource
from distmgcd.data.sources.source import Source
from distmgcd.errors import UserError

_PARQUET_EXTENSIONS = frozenset({"parquet", "pq"})
_METADATA = ("metadata.parquet",)  # which Hugging Face puts beside images: their file_name, and more about each
_NUM_KINDS_SHOWN = 5


def open_source(path: str) -> Source:
    """Open a Parquet file, a folder or glob of them, a folder of images, `sklearn:digits` or `torchvision:NAME`.

    Looks for files but opens none. Raises UserError if `path` is none of these.
    """
    if not path.strip():
        raise UserError("data.path is empty; name a Parquet file, a folder of images, or sklearn:digits.")
    if path == DIGITS:
        return DigitsSource()
    if path.startswith(TORCHVISION_PREFIX):
        return TorchvisionSource(path)
    if path.startswith("sklearn:"):
        raise UserError(f"data.path {path!r} is unknown; of scikit-learn there is only {DIGITS!r}.")
    return _open_files(path)


def _open_files(path: str) -> Source:
    files = find_files(path)
    parquet, images = files.with_extensions(_PARQUET_EXTENSIONS), files.with_extensions(IMAGE_EXTENSIONS)
    if images.infos and all(info.base_name in _METADATA for info in parquet.infos):
        return FolderSource(path, images, notes=_unread(files, images))
    if parquet.infos:
        return ParquetSource(path, parquet, notes=_unread(files, parquet))
    extensions = ", ".join("." + extension for extension in sorted(IMAGE_EXTENSIONS))
    raise UserError(
        f"data.path {path!r} holds neither Parquet files (.parquet, .pq) nor images ({extensions}), but "
        f"{_kinds(list(files.infos))}; point it at some. What torchvision downloads is read by "
        "torchvision:NAME?root=DIR."
    )


def _unread(files: Files, read: Files) -> tuple[str, ...]:
    """A sentence about the files that are not read, if there are any; hidden ones are not spoken of."""
    taken = {info.path for info in read.infos}
    others = [info for info in files.visible() if info.path not in taken]
    return (f"Of the files there, these are not read: {_kinds(others)}.",) if others else ()


def _kinds(infos: list[FileInfo]) -> str:
    counts = Counter(map(_kind, infos))
    shown = [f"{count} {kind}" for kind, count in counts.most_common(_NUM_KINDS_SHOWN)]
    return ", ".join(shown) + (", ..." if len(counts) > len(shown) else "")


def _kind(info: FileInfo) -> str:
    if not info.is_file:
        return "link to nothing"
    return f".{info.extension.lower()}" if info.extension else "without extension"
