"""Finding files on any file system pyarrow knows."""

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import pyarrow as pa
from pyarrow import fs

from distmgcd.environment import absolute
from distmgcd.errors import UserError


@dataclass(frozen=True)
class Files:
    """Files below one folder (or one file), sorted by path."""

    file_system: fs.FileSystem
    base: str  # the folder that relative names are relative to
    infos: tuple[fs.FileInfo, ...]

    def identity(self) -> list[Any]:
        """JSON values that change when a file is added, removed, renamed or written."""
        files = [[info.path, info.size, info.mtime_ns] for info in self.infos]
        return [self.file_system.type_name, self.base, files]

    def relative(self, info: fs.FileInfo) -> str:
        return info.path[len(self.base) :].lstrip("/")

    def with_extensions(self, extensions: frozenset[str]) -> "Files":
        """Only the files with such an extension (lower case, no dot) that are not hidden."""
        suitable = (info for info in self.infos if info.extension.lower() in extensions)
        kept = (info for info in suitable if not _is_hidden(self.relative(info)))
        return Files(self.file_system, self.base, tuple(kept))


def find_files(path: str) -> Files:
    """All files of a file's name, a folder (recursively) or a glob; local or an address such as s3://bucket/x.

    Raises UserError if nothing is there or it cannot be looked at.
    """
    try:
        files = _find(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise unreadable(path, error) from error
    if not files.infos:
        raise UserError(f"data.path {path!r} does not exist or holds no files; check the path.")
    return files


def unreadable(path: str, error: Exception) -> UserError:
    """The UserError for a file or an address that pyarrow cannot read."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return UserError(f"data.path {path!r} cannot be read ({reason}); check the path, its permissions and its contents.")


def _find(path: str) -> Files:
    fixed, pattern = _split_glob(path)
    file_system, base = _resolve(fixed)
    info = file_system.get_file_info(base)
    if info.type == fs.FileType.NotFound:
        return Files(file_system, base, ())
    if info.type == fs.FileType.File:
        return Files(file_system, base.rpartition("/")[0], (info,))
    infos = file_system.get_file_info(fs.FileSelector(base, recursive=True))
    infos = sorted((info for info in infos if info.type == fs.FileType.File), key=lambda info: info.path)
    files = Files(file_system, base.rstrip("/"), tuple(infos))
    if pattern is None:
        return files
    return Files(file_system, files.base, tuple(i for i in infos if _matches(files.relative(i), pattern)))


def _resolve(path: str) -> tuple[fs.FileSystem, str]:
    if "://" in path:
        return fs.FileSystem.from_uri(path)
    return fs.LocalFileSystem(), absolute(path).as_posix()


def _split_glob(path: str) -> tuple[str, str | None]:
    """Cut a glob into the folder before its first special character and the pattern below that folder."""
    is_uri = "://" in path
    special = re.search(r"[*\[]" if is_uri else r"[*?\[]", path)  # in an address ? starts the query
    if special is None or (not is_uri and absolute(path).exists()):
        return path, None
    address, question_mark, query = path.partition("?") if is_uri else (path, "", "")
    folder, slash, _ = address[: special.start()].rpartition("/")
    return (folder or slash or ".") + question_mark + query, address[len(folder + slash) :]


def _matches(relative: str, pattern: str) -> bool:
    parts, pattern_parts = relative.split("/"), pattern.split("/")
    return len(parts) == len(pattern_parts) and all(map(fnmatchcase, parts, pattern_parts))


def _is_hidden(relative: str) -> bool:
    return any(part.startswith(".") for part in relative.split("/"))
