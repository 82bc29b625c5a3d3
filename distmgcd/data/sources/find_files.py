"""Finding files on any file system pyarrow knows."""

import os
import re
from collections.abc import Iterator
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
        suitable = (info for info in self.visible() if info.extension.lower() in extensions)
        return Files(self.file_system, self.base, tuple(info for info in suitable if info.is_file))

    def visible(self) -> Iterator[fs.FileInfo]:
        """Those that are not hidden; links to nothing are among them."""
        return (info for info in self.infos if not _is_hidden(self.relative(info)))


def find_files(path: str) -> Files:
    """All files of a file's name, a folder (recursively) or a glob; local or an address such as s3://bucket/x.

    Raises UserError if nothing is there or it cannot be looked at.
    """
    try:
        files = _find(path)
    except ImportError:  # of hf:// alone
        raise UserError(
            f"data.path {path!r} needs huggingface_hub, which is not installed; run: pip install huggingface_hub"
        ) from None
    except (pa.ArrowException, OSError, ValueError) as error:
        raise unreadable(path, error) from error
    if not files.infos:
        raise UserError(f"data.path {path!r} does not exist or holds no files; check the path.")
    return files


def unreadable(path: str, error: Exception, *, file: str | None = None) -> UserError:
    """The UserError for a file of data.path, or an address, that pyarrow cannot read."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    what = f"data.path {path!r}" if file in (None, path) else f"The file {file!r} of data.path {path!r}"
    return UserError(f"{what} cannot be read ({reason}); check the path, its permissions and its contents.")


def _find(path: str) -> Files:
    fixed, pattern = _split_glob(path)
    file_system, base = _resolve(fixed)
    info = file_system.get_file_info(base)
    if info.type == fs.FileType.NotFound:
        return Files(file_system, base, ())
    if info.type == fs.FileType.File:
        return Files(file_system, base.rpartition("/")[0], (info,))
    infos = sorted(_all_below(file_system, base.rstrip("/") or base), key=lambda info: info.path)
    files = Files(file_system, base.rstrip("/"), tuple(infos))
    if pattern is None:
        return files
    return Files(file_system, files.base, _matching(files, pattern.split("/")))


def _all_below(file_system: fs.FileSystem, base: str) -> list[fs.FileInfo]:
    """Everything below a folder but folders. pyarrow would follow a link to a folder above again and again."""
    if not isinstance(file_system, fs.LocalFileSystem):
        infos = file_system.get_file_info(fs.FileSelector(base, recursive=True))
        return [info for info in infos if info.type != fs.FileType.Directory]
    paths = []
    for folder, subfolders, names in os.walk(base, followlinks=True, onerror=_raise):
        above = f"{os.path.realpath(folder)}/"
        subfolders[:] = [
            name for name in subfolders if not above.startswith(f"{os.path.realpath(f'{folder}/{name}')}/")
        ]
        paths.extend(f"{folder}/{name}" for name in names)
    return file_system.get_file_info(paths)


def _raise(error: OSError) -> None:
    raise error


def _matching(files: Files, pattern: list[str]) -> tuple[fs.FileInfo, ...]:
    """The files of this pattern; if there are none, those in folders of it, as `train*` may name folders."""
    parts = [files.relative(info).split("/") for info in files.infos]
    of_files = [_matches(path, pattern) for path in parts]
    if not any(of_files):
        of_files = [any(_matches(path[:end], pattern) for end in range(1, len(path))) for path in parts]
    return tuple(info for info, matches in zip(files.infos, of_files, strict=True) if matches)


def _resolve(path: str) -> tuple[fs.FileSystem, str]:
    if path.startswith(("http://", "https://")):
        raise UserError(
            f"data.path {path!r} is an address of the web, from which nothing is read; download the files, or give "
            "s3://, gs://, abfs:// or hf://."
        )
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
    pattern = address[len(folder + slash) :].rstrip("/")
    if any("**" in part and part != "**" for part in pattern.split("/")):
        raise UserError(
            f"In data.path, ** must stand alone between slashes, for any number of folders, but is part of a name in "
            f"{path!r}; write DIR/**/*.parquet."
        )
    return (folder or slash or ".") + question_mark + query, pattern


def _matches(parts: list[str], pattern: list[str]) -> bool:
    """Part by part; ** stands for any number of folders, none included."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return _matches(parts, pattern[1:]) or (bool(parts) and _matches(parts[1:], pattern))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def _is_hidden(relative: str) -> bool:
    return any(part.startswith(".") for part in relative.split("/"))
