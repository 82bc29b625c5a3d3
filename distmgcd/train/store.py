"""The folder of a run, on any file system that pyarrow knows: a local path, s3://, gs://, ...

A file is written whole or not at all: under another name and then renamed on a local disk; an object
store's own writes are already atomic.
"""

import os
from pathlib import Path, PurePosixPath

import pyarrow as pa
from pyarrow import fs

from distmgcd.errors import UserError


class Store:
    def __init__(self, location: str):
        """location: a local path (absolute or relative) or a URI. Raises UserError if pyarrow does not know it."""
        try:
            self.filesystem, self.root = fs.FileSystem.from_uri(
                location if "://" in location else str(Path(location).expanduser().absolute())
            )
        except (pa.ArrowException, OSError, ValueError) as error:
            raise UserError(
                f"The folder {location!r} is no path or URI that pyarrow can open ({error}); give a local folder, "
                "s3://BUCKET/PATH or gs://BUCKET/PATH."
            ) from None
        self.location = self.root if self.is_local else location

    @property
    def is_local(self) -> bool:
        return isinstance(self.filesystem, fs.LocalFileSystem)

    def path(self, name: str) -> str:
        """The whole path of a file in the folder, as a user would write it."""
        return f"{self.location.rstrip('/')}/{name}" if name else self.location

    def exists(self, name: str) -> bool:
        return self.filesystem.get_file_info(self._path(name)).type != fs.FileType.NotFound

    def names(self, folder: str) -> list[str]:
        """The names of what lies directly in a sub-folder, sorted; none if it does not exist."""
        found = self.filesystem.get_file_info(fs.FileSelector(self._path(folder), allow_not_found=True))
        return sorted(info.base_name for info in found)

    def read(self, name: str) -> bytes:
        """Raises FileNotFoundError or another OSError."""
        with self.filesystem.open_input_stream(self._path(name)) as stream:
            return stream.read()

    def write(self, name: str, content: bytes) -> None:
        path = self._path(name)
        self.filesystem.create_dir(str(PurePosixPath(path).parent), recursive=True)
        if not self.is_local:
            with self.filesystem.open_output_stream(path) as stream:
                stream.write(content)
            return
        unfinished = f"{path}.unfinished"
        with open(unfinished, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)

    def rename_folder(self, old: str, new: str) -> None:
        """Local only: an object store has no folders to rename."""
        os.rename(self._path(old), self._path(new))
        folder = os.open(str(PurePosixPath(self._path(new)).parent), os.O_RDONLY)
        os.fsync(folder)  # else a power cut could lose the new name
        os.close(folder)

    def delete_folder(self, name: str) -> None:
        if self.exists(name):
            self.filesystem.delete_dir(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self.root.rstrip('/')}/{name}" if name else self.root
