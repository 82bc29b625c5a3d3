"""The log of a run: one JSON line a record, and the same numbers for TensorBoard. Rank 0 writes it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from distmgcd.core.langevin import Langevin
from distmgcd.core.learning import METRICS
from distmgcd.errors import UserError
from distmgcd.runs import strict_json
from distmgcd.runs.log_files import AppendedFile, TensorBoardFile
from distmgcd.runs.read_log import record_of
from distmgcd.runs.run_folder import METRICS_FILE, Run
from distmgcd.runs.store import Store


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
        columns: dict[str, Tensor] = dict(zip(METRICS, values.unbind(-1), strict=True))
        gap = columns["energy_observed"] - columns["energy_synthesised"]
        columns["drift"] = columns.pop("drift_squared").sqrt()
        mean = {name: float(column.mean()) for name, column in columns.items()}
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


def resumed_sentence(update: int, log: "Log", *, num_workers: int) -> str:
    """The sentence of a run that resumes from the checkpoint of an update, or from its start if that is 0."""
    where = f"Going on from the checkpoint of update {update}" if update else "Starting again"
    workers = f"{num_workers} worker{'s' if num_workers > 1 else ''}"
    changed = f" with {workers} (had {log.had_workers})" if log.had_workers not in (None, num_workers) else ""
    again = log.reached - update
    lost = f" The log had got to update {log.reached}, so {again} of them are done again." if again > 0 else ""
    return f"{where}{changed}.{lost}"


class Log:
    """metrics.jsonl and a TensorBoard event file in a local folder; copied to the run where that is remote.

    A record that a full disk refuses waits in memory, and is written when there is room again.
    """

    def __init__(self, folder: Path, *, after_update: int):
        """after_update: where the run resumes; records of later updates, of a run that was cut, are dropped.

        Raises OSError.
        """
        self.folder = folder
        self._file = folder / METRICS_FILE
        self.reached, self.had_workers = _last_record(self._file)  # by the workers before these
        self._drop_records_after(after_update)
        self._records = AppendedFile(self._file)
        self._tensorboard = TensorBoardFile(folder, purge_step=after_update + 1)
        self._changed = True  # since the last copy

    def write(self, record: dict[str, Any]) -> OSError | None:
        """A record of updates (make_record), an evaluation {"swd": ..., "fd": ... if that is measured}, a checkpoint
        {"checkpoint": ...}, what is begun that takes a while {"doing": ...}, or an event.

        An event that follows what befell earlier workers says that in {"after": [...]}. Returns what keeps it from the
        disk, if anything does.
        """
        self._changed = True
        line = (strict_json.dumps(record) + "\n").encode()
        refused = self._records.append(line)
        return self._tensorboard.add_numbers(_numbers_of(record), record["update"]) or refused

    def roll_back(self, update: int) -> None:
        """The run is rolled back to so many updates; TensorBoard forgets what is undone, metrics.jsonl keeps it."""
        self._changed = True
        self._tensorboard.purge(update + 1)

    def write_picture(self, picture: np.ndarray, update: int) -> OSError | None:
        """picture: uint8 [H, W, 3] array."""
        self._changed = True
        return self._tensorboard.add_picture("samples", picture, update)

    def copy_to(self, store: Store) -> None:
        """Bring a remote run's log there; nothing to do for a local one, whose log is in place. Raises OSError."""
        if self._changed and not store.is_local:
            self._changed = False
            for file in self.folder.iterdir():
                store.write(f"log/{file.name}", file.read_bytes())

    def _drop_records_after(self, update: int) -> None:
        """In a file of its own that then takes the place of the old one: others may be reading that."""
        if not self._file.exists():
            return
        lines = self._file.read_text().splitlines(keepends=True)
        kept = [line for line in lines if (record := record_of(line)) and record["update"] <= update]
        if kept != lines:
            shorter = self._file.with_suffix(".unfinished")
            try:
                shorter.write_text("".join(kept))
                shorter.replace(self._file)
            except OSError:
                shorter.unlink(missing_ok=True)
                raise


def open_log(run: Run, *, after_update: int) -> Log:
    """The log of a run, cut back to where it resumes. Raises UserError if the disk has no room for it."""
    try:
        return Log(run.log_folder(), after_update=after_update)
    except OSError as error:
        raise UserError(
            f"The log of the run {run.store.location} cannot be written ({error.strerror or error}); free space there "
            "or mend what is wrong, and run the same command again."
        ) from error


def _numbers_of(record: dict[str, Any]) -> dict[str, float]:
    """What TensorBoard shows of a record."""
    numbers = {
        f"{name}/grid_{size}": value
        for size, values in record.get("grids", {}).items()
        for name, value in values.items()
        if value is not None
    }
    numbers |= {f"swd/grid_{size}": value for size, value in record.get("swd", {}).items()}
    numbers |= {f"fd/{name}": value for name, value in record.get("fd", {}).items()}
    numbers |= {f"checkpoint/{name}": value for name, value in record.get("checkpoint", {}).items()}
    return numbers | ({"speed/images_per_s": record["images_per_s"]} if "images_per_s" in record else {})


def _last_record(file: Path) -> tuple[int, int | None]:
    """The update and the number of workers of the last record of updates in a log."""
    for line in reversed(file.read_text().splitlines() if file.exists() else []):
        if (record := record_of(line)) and "grids" in record:
            return record["update"], record.get("num_workers")
    return 0, None
