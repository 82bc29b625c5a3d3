"""The folder of a run and what lies in it.

STORAGE/NAME/config.yaml      the config; a run name holds one config for ever
STORAGE/NAME/checkpoints/     see checkpoint.py
STORAGE/NAME/lock             see lock.py
STORAGE/NAME/log/             metrics.jsonl and TensorBoard's files
STORAGE/NAME/samples.png      fresh samples; result.json: what they measure
STORAGE/NAME/result_000500.json, samples_000500.png      the same at an earlier end, of a run that was trained past it
STORAGE/NAME/data.json        which images it is of, see identity.py
STORAGE/NAME/card.md          of an exported model: what it is, see export/card.py
STORAGE/NAME/origin.json      of a run that started from another one's weights, see training/origin.py
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any, Literal

import yaml

from distmgcd.config import Config, make_config, to_yaml
from distmgcd.errors import UserError
from distmgcd.runs import identity, pretrained, strict_json
from distmgcd.runs.identity import DataRecord
from distmgcd.runs.store import Store

METRICS_FILE = "metrics.jsonl"  # in the log
CARD_FILE = "card.md"

_LONGEST_NAME = 255  # bytes in the name of one file or folder on common file systems
END_FILES = ("result.json", "samples.png", "pyramid.png")  # what a finished run has


@dataclass(frozen=True)
class StartFrom:
    """Another run, whose weights a new one begins with."""

    run: str  # its folder
    checkpoint: str = "end"  # or best, or an update
    weights: Literal["ema", "raw"] = "ema"  # averaged over updates, or as the last update left them

    @staticmethod
    def of(given: "StartFrom | str | None") -> "StartFrom | None":
        return StartFrom(given) if isinstance(given, str) else given


@dataclass(frozen=True)
class Run:
    name: str
    store: Store

    @staticmethod
    def at(storage_path: str, name: str) -> "Run":
        """A run by its name, whether it is there or not. Raises UserError if none can be there."""
        check_place(storage_path, name)
        run = Run(name, Store(f"{storage_path.rstrip('/')}/{name}"))
        run._is_there(advice="choose another --name or --storage-path")
        return run

    @staticmethod
    def open(path: str) -> "Run":
        """An existing run, by the path of its folder. Raises UserError if there is none."""
        if not path.strip():
            raise UserError(
                f"RUN must be the folder of a run, but is {path!r}, as a shell variable is that is not set; `distmgcd "
                "train` prints the path of the run it made."
            )
        run = Run(Path(path).name, Store(path))
        if not run._is_there(advice="give the folder that `distmgcd train` printed"):
            near = f" (did you mean runs/{path}?)" if Path("runs", path, "config.yaml").is_file() else ""
            near = near or (f" (did you mean {pretrained.PREFIX}{path}?)" if path in pretrained.names() else "")
            raise UserError(
                f"There is no run at {path}{near}: it has no config.yaml; `distmgcd train` prints the path of the run "
                "it made, and `distmgcd runs FOLDER` lists those in a folder."
            )
        return run

    def _is_there(self, *, advice: str) -> bool:
        """Raises UserError if its place cannot be looked at: a name too long, a folder without permission."""
        try:
            return self.store.exists("config.yaml")
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else error
            raise UserError(
                f"The place of a run, {self.store.location}, cannot be looked at ({reason}); {advice}."
            ) from None

    def title(self) -> str | None:
        """The first line of an exported model's card: what it is, in one line; None of any other run."""
        if not self.store.exists(CARD_FILE):
            return None
        return self.store.read(CARD_FILE).decode().partition("\n")[0].lstrip("# ")

    def claim(self, config: Config, data: DataRecord | None = None) -> list[str]:
        """Write config and data record of a new run, or check that it may resume with the config; returns messages.

        data: of the images at config.data.path. Raises UserError if the run is of another config or of other images.
        """
        if not self.store.exists("config.yaml"):
            self._write(config, data)
            return []
        asked, old = config, self.config()
        config = identity.continued(old, asked)
        knows_images = bool(data) and identity.read_data_record(self.store) is not None
        # The settings first: of other ones, images at the same path differ, too.
        identity.check_same(old, config, self.store.location, same_images=knows_images)
        if data:
            identity.check_images(self.store, data, config.data.path)
        moved = old.model_copy(update={"data": config.data})
        longer = config.learning.num_updates > old.learning.num_updates
        ended = {"finished": self.result() is not None}
        notes = [identity.longer_in_words(old, config, self.store.location, **ended)] if longer else []
        if asked.learning.num_updates < config.learning.num_updates:
            notes.append(identity.kept_length_in_words(asked, config, self.store.location))
        if moved != old:
            notes.append(f"The images of the run are at {config.data.path} now (they were at {old.data.path}).")
        if longer:
            self._keep_end(old)
        finished = not longer and self.result() is not None
        if changed := identity.evaluation_differences(old, config) if finished else []:
            notes.append(self._too_late(changed))
        self._write(moved if finished else config, data, before=old)  # what may change takes effect from here on
        return notes

    def check_settings(self, config: Config) -> None:
        """Check that this run, if it is there, may resume with these settings, wherever its images are now.

        Raises UserError.
        """
        if self.store.exists("config.yaml"):
            old = self.config()
            identity.check_same(old, identity.continued(old, config), self.store.location, same_images=True)

    def result(self) -> dict[str, Any] | None:
        """The contents of result.json of a finished run; None if it has not finished, or is trained past that end.

        Raises UserError if it is damaged.
        """
        if not self.store.exists("result.json"):
            return None
        try:
            result = strict_json.loads(self.store.read("result.json"))
            return result if result["update"] >= self.config().learning.num_updates else None
        except (ValueError, KeyError, TypeError):
            raise UserError(
                f"The result of the run {self.store.location} is damaged; delete {self.store.path('result.json')}, and "
                "the same command measures it again."
            ) from None

    def _keep_end(self, config: Config) -> None:
        """Keep what a finished run has at its end under names that the next end does not take."""
        if self.result() is None:
            return
        for name in END_FILES:
            if self.store.exists(name):
                stem, _, ending = name.partition(".")
                with self.writing():
                    self.store.write(f"{stem}_{config.learning.num_updates:06d}.{ending}", self.store.read(name))

    def _too_late(self, changed: list[str]) -> str:
        """The message for a finished run that is asked for with other evaluation settings."""
        location = self.store.location
        return (
            f"The run {location} is finished and keeps its result, measured with another {', '.join(changed)}; "
            f"`distmgcd evaluate {quote(location)} --num N` measures it again, as does the same command once "
            f"{self.store.path('result.json')} is deleted."
        )

    def _write(self, config: Config, data: DataRecord | None, *, before: Config | None = None) -> None:
        with self.writing():
            if data and (before is None or identity.read_data_record(self.store) is None):
                identity.write_data_record(self.store, data)
            if config != before:
                self.store.write("config.yaml", to_yaml(config).encode())

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Inside, what cannot be written is a sentence for the user: a UserError."""
        try:
            yield
        except OSError as error:
            reason = error.strerror or error
            raise UserError(
                f"The run {self.store.location} cannot be written ({reason}); choose a --storage-path that can."
            ) from None

    def config(self) -> Config:
        """Raises UserError if it is damaged."""
        try:
            settings = yaml.safe_load(self.store.read("config.yaml"))
            if not isinstance(settings, dict):
                raise ValueError("it holds no settings")
        except (yaml.YAMLError, ValueError) as error:
            raise UserError(
                f"The config of the run {self.store.location} is damaged ({' '.join(str(error).split())}); put back a "
                "copy of its config.yaml, or choose another --name."
            ) from None
        return make_config(settings)

    def log_folder(self) -> Path:
        """Where the log is written: in the run if it is local, else in a temporary folder that is copied there."""
        if not self.store.is_local:
            folder = Path(tempfile.mkdtemp(prefix=f"distmgcd-{self.name}-"))
            if self.store.exists(f"log/{METRICS_FILE}"):  # a run that resumes continues its log
                (folder / METRICS_FILE).write_bytes(self.store.read(f"log/{METRICS_FILE}"))
            return folder
        folder = Path(self.store.path("log"))
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def drop_log_folder(self, folder: Path) -> None:
        """Delete the temporary folder of a remote run's log, when the run has left it."""
        if not self.store.is_local:
            shutil.rmtree(folder, ignore_errors=True)


def check_place(storage_path: str, name: str) -> None:
    """Raises UserError."""
    if not storage_path.strip():
        raise UserError(
            f"--storage-path must be a folder or a URI, but is {storage_path!r}, as a shell variable is that is not "
            "set; give a folder (. is the current one), or leave it out for the default."
        )
    if "/" in name or name in ("", ".", ".."):
        raise UserError(
            f"--name must be a plain folder name, but is {name!r}; put the folder above it in --storage-path."
        )
    # A file system says so only once the folder above is there, and that is made late.
    for option, part in (("--name", name), *(("--storage-path", part) for part in storage_path.split("/"))):
        if (length := len(os.fsencode(part))) > _LONGEST_NAME:
            raise UserError(
                f"{option} must have folder names of at most {_LONGEST_NAME} bytes, as file systems want, but "
                f"{part[:20]}... has {length}; choose a shorter one."
            )
