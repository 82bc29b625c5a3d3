"""A local file that grows by whole pieces: a full disk leaves no half a line in it."""

import os
from collections import deque
from pathlib import Path

_MOST_WAITING = 10_000  # pieces; older ones are given up


class Pieces:
    """What the disk refuses waits in memory and goes first the next time."""

    def __init__(self, path: Path):
        self.path = path
        self._waiting: deque[bytes] = deque(maxlen=_MOST_WAITING)

    def append(self, piece: bytes) -> OSError | None:
        """Returns what keeps the piece from the disk, if anything does."""
        self._waiting.append(piece)
        try:
            _append_whole(self.path, b"".join(self._waiting))
        except OSError as error:
            return error
        self._waiting.clear()
        return None


def _append_whole(path: Path, content: bytes) -> None:
    with open(path, "ab", buffering=0) as file:
        before = os.fstat(file.fileno()).st_size
        try:
            while content:
                content = content[file.write(content) :]
        except OSError:
            os.ftruncate(file.fileno(), before)
            raise
