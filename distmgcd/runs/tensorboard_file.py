"""TensorBoard's event file, written here and now.

Its own SummaryWriter writes from a thread, which a full disk ends for good with a traceback and half a record, after
which nothing in the file can be read.
"""

import io
import os
import socket
import time
from pathlib import Path

import numpy as np

from distmgcd.runs.pieces import Pieces


class TensorBoardFile:
    def __init__(self, folder: Path, *, purge_step: int):
        """purge_step: as in purge."""
        name = f"events.out.tfevents.{time.time_ns() / 1e9:.6f}.{socket.gethostname()}.{os.getpid()}"
        self._pieces = Pieces(folder / name)
        self._append(file_version="brain.Event:2")
        self.purge(purge_step)

    def purge(self, step: int) -> OSError | None:
        """Have TensorBoard forget what any file of the folder says so far of this update and later ones."""
        from tensorboard.compat.proto.event_pb2 import SessionLog  # slow to import, and only rank 0 needs it

        return self._append(step=step, session_log=SessionLog(status=SessionLog.START))

    def add_numbers(self, numbers: dict[str, float], update: int) -> OSError | None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in numbers.items()]
        return self._append(step=update, summary=Summary(value=values)) if values else None

    def add_picture(self, tag: str, picture: np.ndarray, update: int) -> OSError | None:
        """picture: uint8 [H, W, 3] array."""
        from torch.utils.tensorboard.summary import image

        return self._append(step=update, summary=image(tag, picture, dataformats="HWC"))

    def _append(self, **event: object) -> OSError | None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        record = io.BytesIO()
        RecordWriter(record).write(Event(wall_time=time.time(), **event).SerializeToString())
        return self._pieces.append(record.getvalue())
