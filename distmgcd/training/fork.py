"""A run whose start is another run's checkpoint: the copy of it, and of the log that led there."""

from distmgcd.runs import checkpoint
from distmgcd.runs.read_log import LOG, record_of
from distmgcd.runs.run_folder import Run


def fork_from(run: Run, donor: Run, update: int) -> None:
    """Copy the donor's checkpoint of this update into a run that has none. Raises DamagedCheckpoint and OSError."""
    found = checkpoint.read(donor.store, checkpoint.name_of(update))
    if donor.store.exists(LOG):
        lines = donor.store.read(LOG).splitlines(keepends=True)
        kept = [line for line in lines if (record := record_of(line)) and record["update"] <= update]
        run.store.write(LOG, b"".join(kept))
    checkpoint.put(run.store, found.name, found.files.items())  # last: a run with a checkpoint is complete
