"""Checkpoints: folders of safe files, complete or not there, proved by checksums.

    checkpoints/update_000200/
        model.safetensors  ema.safetensors  optimizer.safetensors  starts.safetensors
        state.json         updates done, the learning rate's scale, versions, how chains were executed; distances, if
                           they were measured here
        checksums.json     SHA-256 of each of the above, written last

An exported model (export/export_run.py) has one checkpoint: averaged weights, starts and state.json, which says so.

Nothing here is pickled, so loading runs no code. The newest good one is used; a damaged one is skipped
with a warning. Which ones stay: see retention.py.
"""

import hashlib
import json
import logging
import math
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import safetensors.torch
from torch import Tensor

from distmgcd.core.synthesis import StartDistribution
from distmgcd.errors import UserError
from distmgcd.runs import strict_json
from distmgcd.runs.store import Store

FOLDER = "checkpoints"
TENSOR_FILES = ("model.safetensors", "ema.safetensors", "optimizer.safetensors", "starts.safetensors")
SAMPLING_FILES = ("ema.safetensors", "starts.safetensors")  # all that sampling needs: what an exported model has
CHAINS_FILE = "chains.safetensors"  # of a run with persistent chains
EXPORTED = "exported"  # the key of state.json that says so
FAMILIES = ("swd", "fd")  # of distances that an evaluation may measure
RateScale = float | tuple[float, ...]  # what is left of the learning rate: one factor of all grids, or one per grid
# {"swd": {size: sliced Wasserstein distance}, "fd": {its name: Frechet distance}} of fresh samples to held-out images;
# {} where there was no evaluation.
Measured = dict[str, dict[str, float]]

_NAME = re.compile(r"update_\d+")
_LEFT_OVER = re.compile(r"update_\d+\.(unfinished|discarded)")  # by a process that was killed; a local disk only
_logger = logging.getLogger(__name__)


class DamagedCheckpoint(Exception):
    """A checkpoint whose files are missing or are not what was written."""


@dataclass(frozen=True)
class Progress:
    """How far a run is: what is saved beside its tensors."""

    update: int = 0  # updates done
    num_retries: int = 0  # how often it was rolled back after diverging
    rate_scale: RateScale = 1.0  # what is left of the learning rate after that
    seconds: float = 0.0  # spent in updates, over all restarts
    retries_in_a_row: tuple[int, ...] = ()  # those of the last trouble, of each grid; (): none
    diverged_at: int = 0  # the update of the last divergence
    went_back_to: int = 0  # updates done in the checkpoint that it was rolled back to then

    def __post_init__(self):
        for name in ("rate_scale", "retries_in_a_row"):
            if isinstance(value := getattr(self, name), list):  # as JSON has a tuple
                object.__setattr__(self, name, tuple(value))


def scale_in_words(scale: RateScale) -> str:
    """ "0.5", or "1,1,0.5" of three grids, as --rate-scale takes it."""
    return f"{scale:g}" if isinstance(scale, int | float) else ",".join(f"{value:g}" for value in scale)


def frozen_grids(scale: RateScale) -> list[int]:
    """The grids that learn no more, coarse to fine."""
    return [grid for grid, value in enumerate(scale if isinstance(scale, tuple) else ()) if value == 0]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory, its checksums verified."""

    name: str
    progress: Progress
    files: dict[str, bytes]

    def tensors(self, file: str) -> dict[str, Tensor]:
        """Raises UserError for a file that an exported model has not."""
        if file not in self.files and self.is_exported:
            raise UserError(
                f"The checkpoint {self.name} is of an exported model, which keeps averaged weights only and no {file}; "
                "take the averaged ones (ema), or the run that it was exported from."
            )
        return safetensors.torch.load(self.files[file])

    @property
    def is_exported(self) -> bool:
        """Whether it holds only what sampling needs, in half precision."""
        return EXPORTED in strict_json.loads(self.files["state.json"])

    @property
    def measured(self) -> Measured:
        """What an evaluation at this update measured."""
        state = strict_json.loads(self.files["state.json"])
        return {family: state[family] for family in FAMILIES if state.get(family)}

    @property
    def speed(self) -> dict[str, Any]:
        """How the chains that led here were executed (training.speed); {} if an older version wrote it."""
        return json.loads(self.files["state.json"]).get("speed", {})

    def starts(self) -> StartDistribution:
        return StartDistribution(**self.tensors("starts.safetensors"))

    def chains(self) -> dict[str, Tensor]:
        """Where the persistent chains of all images ended; of a run that has them."""
        return self.tensors(CHAINS_FILE)


def put(store: Store, name: str, contents: Iterable[tuple[str, bytes]]) -> str:
    """Write the files of a checkpoint, (file, content); returns its name, which it has only once it is complete.

    Raises OSError; then nothing is left of it.
    """
    # On an object store, which cannot rename a folder, the checksums written last are what completes it.
    folder = f"{FOLDER}/{name}.unfinished" if store.is_local else f"{FOLDER}/{name}"
    try:
        discard(store, folder)
        _write_files(store, folder, contents)
        if store.is_local:
            _put_in_place(store, name)
    except OSError:
        with suppress(OSError):
            discard(store, folder)
        raise
    return name


def _write_files(store: Store, folder: str, contents: Iterable[tuple[str, bytes]]) -> None:
    checksums = {}
    for file, content in contents:
        checksums[file] = _checksum(content)
        store.write(f"{folder}/{file}", content)
    store.write(f"{folder}/checksums.json", json.dumps(checksums, indent=1).encode())


def _put_in_place(store: Store, name: str) -> None:
    final, discarded = f"{FOLDER}/{name}", f"{FOLDER}/{name}.discarded"
    store.delete_folder(discarded)
    if store.exists(final):
        store.rename_folder(final, discarded)
    store.rename_folder(f"{final}.unfinished", final)
    store.delete_folder(discarded)


def complete_left_overs(store: Store) -> None:
    """Give a checkpoint its name that was whole when its process was killed just before the renaming."""
    for left_over in left_overs(store):
        name = left_over.removesuffix(".unfinished")
        if name in (left_over, *names(store)):
            continue
        with suppress(DamagedCheckpoint):
            read(store, left_over)
            _put_in_place(store, name)


def discard(store: Store, folder: str) -> None:
    """Delete a checkpoint: at no moment does half of it have the name of a whole one."""
    if store.is_local and store.exists(folder):
        name = f"{folder.removesuffix('.unfinished').removesuffix('.discarded')}.discarded"
        if name != folder:
            store.delete_folder(name)
            store.rename_folder(folder, name)
        folder = name
    elif not store.is_local:
        store.delete(f"{folder}/checksums.json")
    store.delete_folder(folder)


def discard_left_overs(store: Store) -> None:
    """Delete what a killed process left half written or half deleted."""
    for name in left_overs(store):
        store.delete_folder(f"{FOLDER}/{name}")


def left_overs(store: Store) -> list[str]:
    """The names of checkpoints that killed processes left half written or half deleted."""
    return [name for name in store.names(FOLDER) if _LEFT_OVER.fullmatch(name)]


def name_of(update: int) -> str:
    """The name of the checkpoint of an update: update_000200."""
    return f"update_{update:06d}"


def update_of(name: str) -> int:
    """The updates done in the checkpoint of this name."""
    return int(name.removeprefix("update_"))


def names(store: Store) -> list[str]:
    """Oldest first; complete or damaged, but not unfinished."""
    return sorted(filter(_NAME.fullmatch, store.names(FOLDER)), key=update_of)


def by_time(store: Store) -> list[str]:
    """The names in the order of writing, oldest first.

    A run that went back may have left a checkpoint of more updates, the best one, say: it is not of the run as it is
    now, whose checkpoints count more roll-backs. One that cannot be read counts as many as those of fewer updates.
    """
    retries, most = {}, 0
    for name in names(store):
        retries[name] = num_retries_of(store, name, default=most)
        most = max(most, retries[name])
    return sorted(retries, key=retries.__getitem__)


def num_retries_of(store: Store, name: str, *, default: int = 0) -> int:
    """How often the run had gone back when it wrote a checkpoint; the default if that cannot be read."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return int(strict_json.loads(store.read(f"{FOLDER}/{name}/state.json"))["progress"]["num_retries"])
    return default


def newest(
    store: Store, warn: Callable[[str], None] = _logger.warning, *, at_most: float = math.inf
) -> Checkpoint | None:
    """The newest checkpoint that is whole, of those of at most so many updates; None if there is none.

    Each damaged one is skipped with a warning.
    """
    for name in reversed([name for name in by_time(store) if update_of(name) <= at_most]):
        try:
            return read(store, name)
        except DamagedCheckpoint as error:
            warn(f"The checkpoint {store.path(f'{FOLDER}/{name}')} is damaged ({error}); using the one before it.")
    return None


def to_resume_from(store: Store, warn: Callable[[str], None] = _logger.warning) -> Checkpoint | None:
    """The newest checkpoint that is whole; None for a run that has never completed one.

    Raises UserError if all are damaged: to start again under their name would be to lose them in silence.
    """
    found = newest(store, warn)
    if found and found.progress.update:
        return found
    # The weights that a run started from (training/origin.py) do not stand for those that it has learned since.
    others = [name for name in names(store) if found is None or name != found.name]
    # On an object store a folder without checksums is one whose writing was cut short.
    damaged = [name for name in others if store.is_local or store.exists(f"{FOLDER}/{name}/checksums.json")]
    if damaged:
        raise UserError(
            f"Every checkpoint of the run {store.location} is damaged ({', '.join(damaged)}), so there is nothing to "
            f"go on from; put back a copy of one, delete {store.path(FOLDER)} to start again from update 0, or choose "
            "another --name."
        )
    return found


def is_exported(store: Store) -> bool:
    """Whether the newest checkpoint is that of an exported model. Its checksums are not looked at."""
    try:
        return EXPORTED in strict_json.loads(store.read(f"{FOLDER}/{names(store)[-1]}/state.json"))
    except (IndexError, OSError, ValueError, TypeError):  # none yet, or a damaged one
        return False


def read(store: Store, name: str) -> Checkpoint:
    """Read one checkpoint and verify it. Raises DamagedCheckpoint."""
    files: dict[str, bytes] = {}
    try:
        checksums = json.loads(store.read(f"{FOLDER}/{name}/checksums.json"))
        for file, checksum in checksums.items():
            files[file] = store.read(f"{FOLDER}/{name}/{file}")
            if _checksum(files[file]) != checksum:
                raise DamagedCheckpoint(f"the checksum of {file} does not fit")
        if "state.json" not in checksums:
            raise DamagedCheckpoint("there is no checksum of state.json")
        state = strict_json.loads(files["state.json"])
        if missing := {*(SAMPLING_FILES if EXPORTED in state else TENSOR_FILES)} - checksums.keys():
            raise DamagedCheckpoint(f"there is no checksum of {min(missing)}")
        progress = Progress(**state["progress"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedCheckpoint(f"{type(error).__name__}: {error}") from error
    return Checkpoint(name, progress, files)


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
