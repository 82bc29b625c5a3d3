"""The log of a run: one JSON line a record, and the same numbers for TensorBoard. Rank 0 writes it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from distmgcd.core.langevin import Langevin
from distmgcd.core.learning import METRICS
from distmgcd.train.run import METRICS_FILE
from distmgcd.train.store import Store


def make_record(
    metrics: Tensor,
    *,
    num_updates: int,
    num_workers: int,
    images_per_s: float,
    seconds_left: float,
    sizes: Sequence[int],
    langevin: Sequence[Langevin],
) -> dict[str, Any]:
    """What the log says of the updates since the last record.

    metrics: [N, G, len(METRICS)], one row an update. "drift_to_noise" is the health number: the rms drift of a
    chain's last step over the deviation of its noise; in equilibrium about half the step size over sqrt(T).
    """
    grids = {}
    for size, settings, values in zip(sizes, langevin, metrics.unbind(1), strict=True):
        mean = dict(zip(METRICS, values.mean(0).tolist(), strict=True))
        gap = values[:, 0] - values[:, 1]
        grids[str(size)] = {
            "gap": float(gap.mean()),
            "gap_largest": float(gap.abs().max()),
            **mean,
            "drift_to_noise": mean["drift"] / settings.noise_std if settings.noise_std else None,
        }
    return {
        "num_updates": num_updates,
        "num_workers": num_workers,
        "images_per_s": images_per_s,
        "seconds_left": seconds_left,
        "grids": grids,
    }


def going_on(update: int, log: "Log", *, num_workers: int) -> str:
    """What a run says that goes on from the checkpoint of an update, or from its start if that is 0."""
    where = f"Going on from the checkpoint of update {update}" if update else "Starting again"
    workers = f"{num_workers} worker{'s' if num_workers > 1 else ''}"
    changed = f" with {workers} (had {log.had_workers})" if log.had_workers not in (None, num_workers) else ""
    again = log.reached - update
    lost = f" The log had got to update {log.reached}, so {again} of them are done again." if again > 0 else ""
    return f"{where}{changed}.{lost}"


class Log:
    """metrics.jsonl and TensorBoard event files in a local folder; copied to the run where that is remote."""

    def __init__(self, folder: Path, *, after_update: int):
        """after_update: where the run goes on; records of later updates, of a run that was cut, are dropped."""
        from torch.utils.tensorboard import SummaryWriter  # slow to import, and only rank 0 needs it

        self.folder = folder
        self._file = folder / METRICS_FILE
        self.reached, self.had_workers = _last_record(self._file)  # by the workers before these
        self._drop_records_after(after_update)
        self._board = SummaryWriter(str(folder), purge_step=after_update + 1)

    def write(self, record: dict[str, Any]) -> None:
        """A record of updates (make_record), of an evaluation {"swd": ...}, or an event {"event": ...}."""
        with self._file.open("a") as file:
            file.write(json.dumps(record) + "\n")
        update = record["update"]
        for size, values in record.get("grids", {}).items():
            for name, value in values.items():
                if value is not None:
                    self._board.add_scalar(f"{name}/grid_{size}", value, update)
        for size, value in record.get("swd", {}).items():
            self._board.add_scalar(f"swd/grid_{size}", value, update)
        if "images_per_s" in record:
            self._board.add_scalar("speed/images_per_s", record["images_per_s"], update)

    def write_picture(self, picture: Any, update: int) -> None:
        """picture: uint8 [H, W, 3] array."""
        self._board.add_image("samples", picture, update, dataformats="HWC")

    def copy_to(self, store: Store) -> None:
        """Bring a remote run's log there; nothing to do for a local one, whose log is in place."""
        self._board.flush()
        if not store.is_local:
            for file in self.folder.iterdir():
                store.write(f"log/{file.name}", file.read_bytes())

    def close(self) -> None:
        self._board.close()

    def _drop_records_after(self, update: int) -> None:
        """In a file of its own that then takes the place of the old one: others may be reading that."""
        if not self._file.exists():
            return
        lines = self._file.read_text().splitlines(keepends=True)
        kept = [line for line in lines if _update_of(line) <= update]
        if kept != lines:
            shorter = self._file.with_suffix(".unfinished")
            shorter.write_text("".join(kept))
            shorter.replace(self._file)


def _last_record(file: Path) -> tuple[int, int | None]:
    """The update and the number of workers of the last record of updates in a log."""
    for line in reversed(file.read_text().splitlines() if file.exists() else []):
        if _update_of(line) < float("inf") and "grids" in (record := json.loads(line)):
            return record["update"], record.get("num_workers")
    return 0, None


def _update_of(line: str) -> float:
    try:
        return json.loads(line)["update"]
    except (ValueError, KeyError):  # the last line of a process that was killed
        return float("inf")
