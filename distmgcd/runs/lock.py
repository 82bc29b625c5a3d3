"""Who trains a run: an advisory lock on RUN/lock of the command's process, released however the process ends.

On a local disk only; where the file system knows no locks, nobody is kept out.
"""

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from distmgcd.errors import UserError
from distmgcd.runs.store import Store

FILE = "lock"
_PATIENCE_S = 1.0  # `distmgcd runs` holds the lock for a moment to see whether it is free


@contextmanager
def locked(store: Store) -> Iterator[None]:
    """Lock the run, so that no other command trains it inside. Raises UserError if one does."""
    descriptor = _open(store, os.O_RDWR | os.O_CREAT)
    try:
        if descriptor is not None:
            _take(descriptor, store)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def is_locked(store: Store) -> bool:
    """Whether some command trains this run now; False where the file system knows no locks."""
    descriptor = _open(store, os.O_RDONLY)
    if descriptor is None:
        return False
    try:
        return not _try(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _open(store: Store, flags: int) -> int | None:
    if not store.is_local:
        return None
    try:
        if flags & os.O_CREAT:
            os.makedirs(store.location, exist_ok=True)
        return os.open(store.path(FILE), flags | os.O_CLOEXEC, 0o666)
    except OSError:  # no such run, or a folder that cannot be written: others say so better
        return None


def _take(descriptor: int, store: Store) -> None:
    end = time.monotonic() + _PATIENCE_S
    while not _try(descriptor, fcntl.LOCK_EX):
        if time.monotonic() > end:
            owner = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another process"
            raise UserError(
                f"The run {store.location} is being trained by {owner}; wait until it ends, stop it, or choose another "
                "--name."
            )
        time.sleep(0.02)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
    except OSError:  # a full disk; the lock holds without a name in it
        pass


def _try(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # this file system knows no locks
        return True
    return True
