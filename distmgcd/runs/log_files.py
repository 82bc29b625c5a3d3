"""The files of a log, that grow by whole pieces: a full disk leaves no half a line or record in them."""

import io
import os
import socket
import time
from collections import deque
from pathlib import Path

import numpy as np

_MOST_WAITING = 10_000  # pieces; older ones are given up


class AppendedFile:
    """A local file. What the disk refuses waits in memory and goes first the next time."""

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


class TensorBoardFile:
    """TensorBoard's event file, written here and now.

    Its own SummaryWriter writes from a thread, which a full disk ends for good with a traceback and half a record,
    after which nothing in the file can be read.
    """

    def __init__(self, folder: Path, *, purge_step: int):
        """purge_step: as in purge."""
        name = f"events.out.tfevents.{time.time_ns() / 1e9:.6f}.{socket.gethostname()}.{os.getpid()}"
        self._file = AppendedFile(folder / name)
        self._append(file_version="brain.Event:2")
        self.purge(purge_step)

    def purge(self, step: int) -> OSError | None:
        """Have TensorBoard forget what any file of the folder says so far of this update and later ones."""
        from tensorboard.compat.proto.event_pb2 import SessionLog  # pyright: ignore[reportAttributeAccessIssue]  # slow to import, and only rank 0 needs it

        return self._append(step=step, session_log=SessionLog(status=SessionLog.START))

    def add_numbers(self, numbers: dict[str, float], update: int) -> OSError | None:
        from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]

        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in numbers.items()]
        return self._append(step=update, summary=Summary(value=values)) if values else None

    def add_picture(self, tag: str, picture: np.ndarray, update: int) -> OSError | None:
        """picture: uint8 [H, W, 3] array."""
        from torch.utils.tensorboard.summary import image

        return self._append(step=update, summary=image(tag, picture, dataformats="HWC"))

    def _append(self, **event: object) -> OSError | None:
        from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
        from tensorboard.summary.writer.record_writer import RecordWriter

        record = io.BytesIO()
        RecordWriter(record).write(Event(wall_time=time.time(), **event).SerializeToString())
        return self._file.append(record.getvalue())
