"""Runs of a second, and what to compare of them."""

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from distmgcd.config import Config, load_config
from distmgcd.launch import start_run
from distmgcd.runs import checkpoint
from distmgcd.runs.run_folder import Run

TINY = Path(__file__).parent / "tiny.yaml"
TENSOR_FILES = ("model", "ema", "optimizer", "starts")


def tiny_config(*changes: str) -> Config:
    return load_config(str(TINY), changes)


def debug(folder: Path, *changes: str, name: str = "run", show: Any = None) -> dict[str, Any]:
    """Train the tiny config in this process, or go on with it; returns its result."""
    return start_run.debug(tiny_config(*changes), storage_path=str(folder), name=name, use_gpu=False, show=show)


def state_of(folder: Path, name: str = "run", *, checkpoint_name: str | None = None) -> dict[str, Tensor]:
    """Every tensor of a checkpoint of a run, the newest by default."""
    store = Run.open(str(folder / name)).store
    found = checkpoint.read(store, checkpoint_name or checkpoint.names(store)[-1])
    return {
        f"{file}/{key}": value for file in TENSOR_FILES for key, value in found.tensors(f"{file}.safetensors").items()
    }


def records_of(folder: Path, name: str = "run") -> list[dict[str, Any]]:
    """The log of a run, but for the line at every start of it that says how chains are executed (log_of has it)."""
    return [record for record in log_of(folder, name) if "speed" not in record]


def log_of(folder: Path, name: str = "run") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name / "log" / "metrics.jsonl").read_text().splitlines()]


def result_of(folder: Path, name: str = "run") -> dict[str, Any]:
    return json.loads((folder / name / "result.json").read_text())


class Stopped(Exception):
    """Raised in the middle of a run."""


def stop_after(update: int):
    """A function to show records with that ends the run as the record of this update is shown."""

    def show(record: dict[str, Any]) -> None:
        if "grids" in record and record["update"] == update:
            raise Stopped

    return show
