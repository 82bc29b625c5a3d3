"""The folder of decoded images, and how the processes of a node take turns in it."""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distmgcd.errors import UserError

_logger = logging.getLogger(__name__)
_VARIABLE = "DISTMGCD_CACHE"


def default_cache_dir() -> Path:
    """$DISTMGCD_CACHE, else ~/.cache/distmgcd."""
    return Path(os.environ.get(_VARIABLE) or "~/.cache/distmgcd").expanduser()


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


@contextmanager
def writable(folder: Path) -> Iterator[None]:
    """Turn a full disk or a folder that cannot be written into a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"The cache of decoded images in {str(folder)!r} cannot be written ({error.strerror or error}); make room "
            f"there, or set {_VARIABLE} to a folder with room on a local disk."
        ) from error
