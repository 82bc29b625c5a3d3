"""The folder of decoded images, and how the processes of a node take turns in it."""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

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


def lock_of(entry: Path) -> Path:
    """What is held while the entry is built or deleted. It stays when the entry goes: another may wait for it."""
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
