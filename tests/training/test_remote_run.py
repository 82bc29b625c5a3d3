"""A run on an object store, stood in for by a folder that claims not to be local."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pyarrow import fs
from tiny_runs import Stopped, records_of, stop_after, tiny_config

from distmgcd.models import trained_model
from distmgcd.runs import checkpoint
from distmgcd.runs import run_folder as run_module
from distmgcd.runs.run_folder import Run
from distmgcd.runs.store import Store
from distmgcd.training import loop
from distmgcd.training.callbacks import ShowRecords
from distmgcd.training.replay.replay_update import replay
from distmgcd.workers.collectives import LocalWorker


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Runs at test:// are in the folder remote, through a file system that is not local."""
    bucket = tmp_path / "remote"
    bucket.mkdir()

    class RemoteStore(Store):
        def __init__(self, location: str):
            self.location, self.root = location, location.removeprefix("test://bucket/")
            self.filesystem = fs.SubTreeFileSystem(str(bucket), fs.LocalFileSystem())

    monkeypatch.setattr(run_module, "Store", RemoteStore)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # where the log is written before it is copied
    return "test://bucket"


def train(storage_path: str, name: str, show: Callable | None = None) -> Run:
    run = Run.at(storage_path, name)
    run.claim(tiny_config())
    assert not run.store.is_local
    loop.train(run.config(), LocalWorker(torch.device("cpu")), run, [ShowRecords(show)] if show else [])
    return run


def test_a_remote_run_is_cut_and_goes_on_with_its_state_and_its_log(remote: str, tmp_path: Path):
    with pytest.raises(Stopped):
        train(remote, "run", stop_after(5))
    updates = [record["update"] for record in records_of(tmp_path / "remote") if "grids" in record]
    assert updates == [1, 2, 3, 4, 5], "the log is brought there however the run ends"
    runs = [train(remote, "run"), train(remote, "unbroken")]
    ours, theirs = (checkpoint.newest(run.store).tensors("model.safetensors") for run in runs)
    assert all(torch.equal(value, ours[name]) for name, value in theirs.items())
    updates = [record["update"] for record in records_of(tmp_path / "remote") if "grids" in record]
    assert updates == [1, 2, 3, 4, 5, 6]
    assert list((tmp_path / "remote" / "run" / "log").glob("events.*"))
    assert not list(tmp_path.glob("distmgcd-*")), "no temporary folder is left"
    assert trained_model.load(f"{remote}/run", device="cpu").update == 6
    assert replay(f"{remote}/run", update=6, device="cpu").checkpoint == 4
