"""The folder of a run and what lies in it.

STORAGE/NAME/config.yaml      the config; a run name holds one config for ever
STORAGE/NAME/checkpoints/     see checkpoint.py
STORAGE/NAME/lock             see lock.py
STORAGE/NAME/log/             metrics.jsonl and TensorBoard's files
STORAGE/NAME/samples.png      fresh samples; result.json: what they measure
"""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import yaml

from distmgcd.config import Config, flatten, make_config, to_yaml
from distmgcd.errors import UserError
from distmgcd.runs.store import Store

METRICS_FILE = "metrics.jsonl"  # in the log

# What may change when a run goes on: none of these decides where it goes.
_MAY_CHANGE = ("checkpoint.", "log.", "evaluate.", "watch.")


@dataclass(frozen=True)
class Run:
    name: str
    store: Store

    @staticmethod
    def at(storage_path: str, name: str) -> "Run":
        """Raises UserError."""
        check_place(storage_path, name)
        return Run(name, Store(f"{storage_path.rstrip('/')}/{name}"))

    @staticmethod
    def open(path: str) -> "Run":
        """An existing run, by the path of its folder. Raises UserError if there is none."""
        if not path.strip():
            raise UserError(
                f"RUN must be the folder of a run, but is {path!r}, as a shell variable is that is not set; `distmgcd "
                "train` prints the path of the run it made."
            )
        run = Run(Path(path).name, Store(path))
        if not run.store.exists("config.yaml"):
            raise UserError(
                f"There is no run at {path}: it has no config.yaml; `distmgcd train` prints the path of the run it "
                "made."
            )
        return run

    def claim(self, config: Config) -> None:
        """Write the config of a new run, or see that this run has it already. Raises UserError if it has another."""
        if not self.store.exists("config.yaml"):
            self._write(config)
            return
        changed = _changed(_identity(self.config()), _identity(config))
        if changed:
            raise UserError(
                f"The run {self.store.location} holds a different config: {', '.join(changed)}; choose another --name, "
                "or give the settings it has to go on with it."
            )

        if config != self.config() and not self.store.exists("result.json"):
            self._write(config)  # what may change takes effect from here on

    def measured_otherwise(self, config: Config) -> list[str]:
        """The settings of its evaluation that a finished run has otherwise: it keeps the result that it has."""
        if not self.store.exists("result.json"):
            return []
        return _changed(_evaluation(self.config()), _evaluation(config))

    def _write(self, config: Config) -> None:
        try:
            self.store.write("config.yaml", to_yaml(config).encode())
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
            if self.store.exists(f"log/{METRICS_FILE}"):  # a run that goes on goes on with its log
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


def _identity(config: Config) -> dict[str, object]:
    settings = flatten(config.model_dump(mode="json"))
    return {key: value for key, value in settings.items() if not key.startswith(_MAY_CHANGE)}


def _evaluation(config: Config) -> dict[str, object]:
    settings = flatten(config.model_dump(mode="json"))
    return {key: value for key, value in settings.items() if key.startswith("evaluate.") and key != "evaluate.every"}


def _changed(old: dict[str, object], new: dict[str, object]) -> list[str]:
    """In words."""
    return [
        f"{key} ({old.get(key)} there, {new.get(key)} now)" for key in sorted(old | new) if old.get(key) != new.get(key)
    ]
