"""A run whose start is another run's checkpoint: the copy of it, and of the log that led there."""

from contextlib import suppress

from distmgcd.runs import checkpoint, strict_json
from distmgcd.runs.run_folder import METRICS_FILE, Run


def fork_from(run: Run, donor: Run, update: int) -> None:
    """Copy the donor's checkpoint of this update into a run that has none. Raises DamagedCheckpoint and OSError."""
    found = checkpoint.read(donor.store, checkpoint.name_of(update))
    with suppress(FileNotFoundError):
        run.store.write(f"log/{METRICS_FILE}", _log_until(donor.store.read(f"log/{METRICS_FILE}"), update))
    checkpoint.put(run.store, found.name, found.files.items())  # last: a run with a checkpoint has adopted


def _log_until(log: bytes, update: int) -> bytes:
    lines = []
    for line in log.splitlines(keepends=True):
        with suppress(ValueError, KeyError):  # the last one may be half written
            if strict_json.loads(line)["update"] <= update:
                lines.append(line)
    return b"".join(lines)
