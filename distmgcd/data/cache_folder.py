"""The folder of decoded images: what it holds, its locks, and how entries that no process has open are deleted.

An entry goes by its fingerprint. To it belongs what processes that were killed have left of it:

    FINGERPRINT               the entry, see image_cache.py
    FINGERPRINT.unfinished    left of building one
    FINGERPRINT.deleted       left of deleting one

A process that has an entry open locks its images; one that builds or deletes it locks FINGERPRINT.lock. Other
machines may share the folder over NFS, whose locks reach them, too, unless it is mounted with locks of its own.
"""

import fcntl
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distmgcd.environment import absolute
from distmgcd.errors import UserError

_logger = logging.getLogger(__name__)
VARIABLE = "DISTMGCD_CACHE"
IMAGES = "images.u8"
DESCRIPTION = "entry.json"
UNFINISHED = ".unfinished"


def default_cache_dir() -> Path:
    """$DISTMGCD_CACHE, else ~/.cache/distmgcd. Raises UserError for a user without a home."""
    if folder := os.environ.get(VARIABLE):
        return absolute(folder)
    try:
        return Path("~/.cache/distmgcd").expanduser()
    except RuntimeError:
        raise UserError(
            "Decoded images are kept in ~/.cache/distmgcd, but this user has no home folder (HOME is not set, and the "
            f"system has no entry for the user); set {VARIABLE} to a folder with room on a local disk."
        ) from None


def read_description(entry: Path) -> dict[str, Any] | None:
    """entry.json of a complete entry; None if it is absent or damaged (a file missing or of the wrong size).

    None, too, for an entry without rows, such as earlier versions built: building it says what is wrong.
    """
    try:
        description = json.loads((entry / DESCRIPTION).read_text())
        sizes = {name: (entry / name).stat().st_size for name in description["num_bytes"]}
        num_rows = description["num_rows"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return description if num_rows and sizes == description["num_bytes"] else None


def read_array(file: Path) -> np.ndarray:
    """A .npy file, read-only."""
    values = np.load(file)
    values.setflags(write=False)
    return values


_logger = logging.getLogger(__name__)


def lock_of(entry: Path) -> Path:
    """What is locked while the entry is built or deleted. It outlives the entry: others may wait for it."""
    return entry.with_suffix(".lock")


@contextmanager
def locked(lock: Path) -> Iterator[None]:
    """Hold the lock file; others wait. The kernel lets go of it when the process ends, however it ends."""
    with writable(lock.parent):
        file = lock.open("w")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _logger.info("Waiting for another process to build %s", lock.with_suffix(""))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def pinned(file: Path) -> np.memmap | None:
    """The bytes of a file, mapped; None if it is gone or empty. As long as the map lives, it is not only_user's.

    The map keeps the descriptor, and with it the lock, which the kernel lets go of when the process ends.
    """
    try:
        with file.open("rb") as opened:
            with suppress(OSError):  # where the file system knows no locks, nothing is ever free
                fcntl.flock(opened, fcntl.LOCK_SH)
            if os.path.samestat(os.fstat(opened.fileno()), file.stat()):  # else it was deleted before the lock was had
                return np.memmap(opened, dtype=np.uint8, mode="r")
    except (OSError, ValueError):
        pass
    return None


@contextmanager
def only_user(file: Path) -> Iterator[bool]:
    """Whether no process has the file locked or pinned, and until the end none will; false where one cannot tell."""
    try:
        opened = file.open("r+b")  # over NFS only a file open for writing can be locked like this
    except FileNotFoundError:
        yield True
        return
    except OSError:
        yield False
        return
    with opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = True
        except OSError:
            free = False
        yield free


@contextmanager
def writable(folder: Path) -> Iterator[None]:
    """Turn a full disk or a folder that cannot be written into a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"The cache of decoded images in {str(folder)!r} cannot be written ({error.strerror or error}); make room "
            f"there, or set {VARIABLE} to a folder with room on a local disk."
        ) from error


_DELETED = ".deleted"
_FOLDER = re.compile(rf"([0-9a-f]{{32}})(?:{re.escape(UNFINISHED)}|{re.escape(_DELETED)})?")


@dataclass(frozen=True, kw_only=True)
class Entry:
    name: str  # its fingerprint
    of: str | None  # the data set and split; None if it is only what killed processes left
    shape: tuple[int, ...]  # (N, C, S, S)
    num_bytes: int
    last_used: float  # when it was last opened, in seconds since 1970
    in_use: bool  # some process has it open, or is building it; also where that cannot be known

    @property
    def short_name(self) -> str:
        return self.name[:8]

    @property
    def in_words(self) -> str:
        return self.of or ("being built" if self.in_use else "left by a process that was killed")


def entries(folder: Path) -> list[Entry]:
    """All entries in a folder, the one last used first."""
    matches = (_FOLDER.fullmatch(path.name) for path in (folder.iterdir() if folder.is_dir() else ()))
    found = []
    for name in {match[1] for match in matches if match}:
        with suppress(FileNotFoundError):  # another process deletes it just now
            found.append(_look_at(folder / name))
    return sorted(found, key=lambda entry: (-entry.last_used, entry.name))


def chosen(found: Sequence[Entry], names: Sequence[str], *, older_than: float | None = None) -> list[Entry]:
    """Those of these names, or of names that begin so, all if there are none; of them those not used for so many days.

    Raises UserError for a name that is not one entry's.
    """
    of_names = dict.fromkeys(_named(name, found) for name in names) if names else found
    latest = time.time() - (older_than or 0.0) * 24 * 3600
    return [entry for entry in of_names if older_than is None or entry.last_used <= latest]


def _named(name: str, found: Sequence[Entry]) -> Entry:
    matching = [entry for entry in found if entry.name.startswith(name)]
    if len(matching) != 1:
        num = f"{len(matching)} entries" if matching else "no entry"
        raise UserError(
            f"ENTRY must be the name of one entry, or its beginning, but {num} of the cache begin with {name!r}; "
            "`distmgcd data cache` lists them."
        )
    return matching[0]


def delete(folder: Path, name: str) -> bool:
    """Delete an entry, with all that is left of it; false if it is in use. Raises UserError.

    It goes by a rename first, so that a process that opens it meanwhile finds all of it or nothing.
    """
    entry = folder / name
    try:
        lock_of(entry).touch()  # so that there is something to hold
        with _unused(entry) as unused:
            if unused:
                _remove(entry)
            return unused
    except OSError as error:
        raise UserError(
            f"The entry {name} of the cache {str(folder)!r} cannot be deleted ({error.strerror or error}); delete it "
            "as the user who owns it."
        ) from error


def _remove(entry: Path) -> None:
    deleted = entry.with_suffix(_DELETED)
    if deleted.exists():
        shutil.rmtree(deleted)
    if entry.exists():
        entry.rename(deleted)
    for left_over in _folders(entry):
        shutil.rmtree(left_over)


@contextmanager
def _unused(entry: Path) -> Iterator[bool]:
    """Whether no process has it open or is building it, and until the end none will."""
    with only_user(lock_of(entry)) as not_built, only_user(entry / IMAGES) as not_open:
        yield not_built and not_open


def _look_at(entry: Path) -> Entry:
    description = _description(entry)
    of = f"{description['source']} [{description['split']}]" if description else None
    described = entry / DESCRIPTION
    times = [path.stat().st_mtime for path in ([described] if described.exists() else _folders(entry))]
    with _unused(entry) as unused:
        return Entry(
            name=entry.name,
            of=of,
            shape=tuple(description["shape"]) if description else (),
            num_bytes=sum(file.stat().st_size for part in _folders(entry) for file in part.iterdir()),
            last_used=max(times, default=0.0),
            in_use=not unused,
        )


def _folders(entry: Path) -> list[Path]:
    return [path for end in ("", UNFINISHED, _DELETED) if (path := entry.with_suffix(end)).is_dir()]


def _description(entry: Path) -> dict[str, Any] | None:
    try:
        description = json.loads((entry / DESCRIPTION).read_text())
        return description if {"source", "split", "shape"} <= set(description) else None
    except (OSError, ValueError, TypeError):
        return None
