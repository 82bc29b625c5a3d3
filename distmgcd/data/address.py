"""Which source an address means: the one way from data.path to a Source."""

from distmgcd.data.digits import DIGITS, DigitsSource
from distmgcd.data.files import find_files
from distmgcd.data.folder import IMAGE_EXTENSIONS, FolderSource
from distmgcd.data.parquet import ParquetSource
from distmgcd.data.source import Source
from distmgcd.data.torchvision_source import PREFIX as TORCHVISION_PREFIX
from distmgcd.data.torchvision_source import TorchvisionSource
from distmgcd.errors import UserError

_PARQUET_EXTENSIONS = frozenset({"parquet", "pq"})


def open_source(path: str) -> Source:
    """Open a Parquet file, a folder or glob of them, a folder of images, `sklearn:digits` or `torchvision:NAME`.

    Looks for files but opens none. Raises UserError if `path` is none of these.
    """
    if path == DIGITS:
        return DigitsSource()
    if path.startswith(TORCHVISION_PREFIX):
        return TorchvisionSource(path)
    if path.startswith("sklearn:"):
        raise UserError(f"data.path {path!r} is unknown; of scikit-learn there is only {DIGITS!r}.")
    return _open_files(path)


def _open_files(path: str) -> Source:
    files = find_files(path)
    if (parquet := files.with_extensions(_PARQUET_EXTENSIONS)).infos:
        return ParquetSource(path, parquet)
    if (images := files.with_extensions(IMAGE_EXTENSIONS)).infos:
        return FolderSource(path, images)
    raise UserError(
        f"data.path {path!r} holds neither Parquet files (.parquet, .pq) nor images "
        f"({', '.join('.' + extension for extension in sorted(IMAGE_EXTENSIONS))}); point it at some."
    )
