"""The folder of a run, on any file system that pyarrow or fsspec knows: a local path, s3://, gs://, hf://, sftp://, ...

Or `pretrained:NAME`, a model that comes with the package: it is read and never written.

A file is written whole or not at all: under another name and then renamed on a local disk; an object
store's own writes are already atomic. Whatever goes wrong with a file is an OSError.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
from pyarrow import fs

from distmgcd.environment import absolute
from distmgcd.errors import UserError
from distmgcd.runs.pretrained import folder_of, is_pretrained


class Store:
    read_only = False  # true of a pretrained model

    def __init__(self, location: str):
        """location: a local path (absolute or relative), a URI, or `pretrained:NAME`.

        Raises UserError if neither pyarrow nor fsspec knows it, or if there is no pretrained model of this name.
        """
        self.read_only = is_pretrained(location)
        self.filesystem, self.root = open_filesystem(folder_of(location) if self.read_only else location)
        self.location = self.root if self.is_local else location

    @property
    def is_local(self) -> bool:
        """Whether files may be opened by their path. Those of a pretrained model go by its name instead."""
        return isinstance(self.filesystem, fs.LocalFileSystem) and not self.read_only

    def path(self, name: str) -> str:
        """The whole path of a file in the folder, as a user would write it."""
        return f"{self.location.rstrip('/')}/{name}" if name else self.location

    def exists(self, name: str) -> bool:
        with self._reached():
            return self.filesystem.get_file_info(self._path(name)).type != fs.FileType.NotFound

    def names(self, folder: str) -> list[str]:
        """The names of what lies directly in a sub-folder, sorted; none if it does not exist."""
        return sorted(info.base_name for info in self._list(folder, recursive=False))

    def files(self, folder: str = "") -> list[fs.FileInfo]:
        """Every file in a sub-folder and below, with its size and, where the file system knows it, its time."""
        return [info for info in self._list(folder, recursive=True) if info.type == fs.FileType.File]

    def read(self, name: str) -> bytes:
        """Raises FileNotFoundError or another OSError."""
        with self._reached(), self.filesystem.open_input_stream(self._path(name)) as stream:
            return stream.read()

    def read_end(self, name: str, num_bytes: int) -> bytes:
        """The last bytes of a file, all of it if it has fewer."""
        with self._reached(), self.filesystem.open_input_file(self._path(name)) as file:
            file.seek(max(0, file.size() - num_bytes))
            return file.read()

    def write(self, name: str, content: bytes) -> None:
        """Raises OSError; a local file is then as it was before."""
        self._check_writable()
        path = self._path(name)
        with self._reached():
            self.filesystem.create_dir(str(PurePosixPath(path).parent), recursive=True)
            if not self.is_local:
                with self.filesystem.open_output_stream(path) as stream:
                    stream.write(content)
                return
        unfinished = f"{path}.unfinished"
        try:
            with open(unfinished, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, path)
        except OSError:
            Path(unfinished).unlink(missing_ok=True)  # a full disk needs its room
            raise

    def rename_folder(self, old: str, new: str) -> None:
        """Local only: an object store has no folders to rename."""
        self._check_writable()
        os.rename(self._path(old), self._path(new))
        folder = os.open(str(PurePosixPath(self._path(new)).parent), os.O_RDONLY)
        try:
            os.fsync(folder)  # else a power cut could lose the new name
        finally:
            os.close(folder)

    def delete(self, name: str) -> None:
        self._check_writable()
        if self.exists(name):
            with self._reached():
                self.filesystem.delete_file(self._path(name))

    def delete_folder(self, name: str) -> None:
        self._check_writable()
        if self.exists(name):
            with self._reached():
                self.filesystem.delete_dir(self._path(name))

    def _check_writable(self) -> None:
        """Raises OSError."""
        if self.read_only:
            raise OSError(errno.EROFS, "a pretrained model is never written")

    def _path(self, name: str) -> str:
        return f"{self.root.rstrip('/')}/{name}" if name else self.root

    def _list(self, folder: str, *, recursive: bool) -> list[fs.FileInfo]:
        with self._reached():
            return self.filesystem.get_file_info(
                fs.FileSelector(self._path(folder), allow_not_found=True, recursive=recursive)
            )

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """fsspec's drivers raise what their libraries raise, and remember listings that other processes change."""
        handler = getattr(self.filesystem, "handler", None)
        if not isinstance(handler, fs.FSSpecHandler):
            yield
            return
        handler.fs.invalidate_cache()
        try:
            yield
        except OSError:
            raise
        except Exception as error:
            raise OSError(f"{type(error).__name__}: {error}") from error


def open_filesystem(location: str) -> tuple[fs.FileSystem, str]:
    """The file system of a path or URI, and the path in it. Raises UserError."""
    whole = location if "://" in location else str(absolute(location))
    try:
        return fs.FileSystem.from_uri(whole)
    except (pa.ArrowException, OSError, ValueError, ImportError) as error:
        unknown = isinstance(error, ImportError | NotImplementedError) or "Unrecognized filesystem type" in str(error)
        if unknown and (found := _open_with_fsspec(location)):
            return found
        raise UserError(
            f"The folder {location!r} is no path or URI that pyarrow can open ({error}); give a local folder, "
            "s3://BUCKET/PATH or gs://BUCKET/PATH."
        ) from None


def _open_with_fsspec(location: str) -> tuple[fs.FileSystem, str] | None:
    """None if fsspec does not know the scheme either. Raises UserError if it does but cannot open it."""
    import fsspec

    scheme = location.partition("://")[0]
    if scheme not in {*fsspec.available_protocols(), *fsspec.registry}:
        return None
    try:
        found: tuple[Any, str] = fsspec.core.url_to_fs(location)
    except ImportError as error:
        reason = str(error).rstrip(".")
        raise UserError(
            f"The folder {location!r} needs an fsspec driver for {scheme}:// that is not installed ({reason}); install "
            "it with pip, or give a local folder."
        ) from None
    except Exception as error:  # whatever a driver's library raises: a host that is not there, a missing key
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise UserError(
            f"The folder {location!r} cannot be opened by fsspec ({reason}); check its address and your credentials, "
            "or give a local folder."
        ) from None
    return fs.PyFileSystem(fs.FSSpecHandler(found[0])), found[1]
