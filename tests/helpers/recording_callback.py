"""A callback that notes in a file what it was called with, for it may run in another process."""

import json
from pathlib import Path
from typing import Any

import distmgcd


class Recorder(distmgcd.Callback):
    def __init__(self, file: Path, *, stop_at: int | None = None, raise_at: int | None = None):
        self.file, self.stop_at, self.raise_at = str(file), stop_at, raise_at
        self.update = 0

    def note(self, what: str, *values: Any) -> None:
        with open(self.file, "a") as file:
            file.write(json.dumps([what, *values]) + "\n")

    def on_start(self, start: Any) -> None:
        self.update = start.update
        self.note("start", start.update, start.rank, start.world_size, start.share, start.config.learning.num_updates)

    def on_log(self, record: Any) -> None:
        self.update = record["update"]
        self.note("log", record["update"])
        if record["update"] == self.raise_at:
            raise ZeroDivisionError("of the callback")

    def on_evaluation(self, record: Any) -> None:
        self.note("evaluation", record["update"], sorted(record["swd"]))

    def on_samples(self, picture: Any, update: int) -> None:
        self.note("samples", update, picture.dtype.name, picture.shape[-1])

    def on_checkpoint(self, record: Any) -> None:
        self.note("checkpoint", record["update"])

    def on_event(self, record: Any) -> None:
        self.note("doing" if "doing" in record else "event", record["update"])

    def on_end(self, end: Any) -> None:
        self.note("end", end.update, (end.result or {}).get("update"), type(end.error).__name__)

    def should_stop(self) -> bool:
        return self.update == self.stop_at


def noted(file: Path) -> list[list[Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]
