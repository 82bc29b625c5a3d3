"""The folder of a run, wherever it is."""

import os
import subprocess
import sys
import uuid
from pathlib import Path

import fsspec
import pytest
import torch
from tiny_runs import TINY, Stopped, debug, state_of, stop_after, tiny_config

import distmgcd
from distmgcd.errors import UserError
from distmgcd.launch import start_run
from distmgcd.runs import checkpoint
from distmgcd.runs.run_folder import Run
from distmgcd.runs.store import Store


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_local_folder_may_be_a_path_or_a_uri(tmp_path: Path, scheme: str):
    store = Store(f"{scheme}{tmp_path}/run")
    store.write("a/b.txt", b"hello")
    assert (tmp_path / "run" / "a" / "b.txt").read_bytes() == b"hello"
    assert store.read("a/b.txt") == b"hello" and store.names("a") == ["b.txt"]
    assert store.is_local and store.location == str(tmp_path / "run") and store.path("x") == f"{tmp_path}/run/x"


def test_a_relative_folder_stays_where_it_was_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    store = Store("runs/a")
    monkeypatch.chdir("/")
    store.write("x", b"")
    assert (tmp_path / "runs" / "a" / "x").exists() and store.location == str(tmp_path / "runs" / "a")


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Store("~/runs").location == str(tmp_path / "runs")


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store = Store(str(tmp_path))
    store.write("x", b"old")
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            store.write("x", b"new")
    assert store.read("x") == b"old"
    store.write("x", b"new")
    assert store.read("x") == b"new" and store.names("") == ["x"]


def test_what_is_absent_is_absent(tmp_path: Path):
    store = Store(str(tmp_path / "run"))
    assert not store.exists("x") and store.names("checkpoints") == []
    store.delete_folder("checkpoints")
    with pytest.raises(FileNotFoundError):
        store.read("x")


@pytest.mark.parametrize("location", ["nosuch://bucket/x", "s3:///", "gs3://"])
def test_a_uri_that_pyarrow_does_not_know_is_a_mistake_in_a_sentence(location: str):
    with pytest.raises(UserError, match="no path or URI that pyarrow can open") as caught:
        Store(location)
    assert "s3://BUCKET/PATH" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a/b", "", ".", ".."])
def test_the_name_of_a_run_is_a_plain_one(name: str):
    with pytest.raises(UserError, match="--name must be a plain folder name"):
        Run.at("runs", name)


def test_a_folder_that_is_no_run_is_told(tmp_path: Path):
    with pytest.raises(UserError, match="There is no run at"):
        Run.open(str(tmp_path))


# File systems of fsspec


@pytest.fixture
def memory() -> str:
    """A folder of fsspec's file system in the memory of this process."""
    return f"memory://{uuid.uuid4().hex}"


def test_an_fsspec_file_system_holds_files_as_any_other(memory: str):
    store = Store(f"{memory}/run")
    assert not store.is_local and not store.exists("x") and store.names("a") == [] and store.files() == []
    store.write("a/b.txt", b"hello")
    store.write("a/b.txt", b"hello world")
    store.write("a/c/d.txt", b"")
    assert store.read("a/b.txt") == b"hello world" and store.read_end("a/b.txt", 5) == b"world"
    assert store.read_end("a/b.txt", 500) == b"hello world"
    assert store.names("a") == ["b.txt", "c"] and store.path("a") == f"{memory}/run/a"
    assert sorted((info.base_name, info.size) for info in store.files()) == [("b.txt", 11), ("d.txt", 0)]
    with pytest.raises(FileNotFoundError):
        store.read("x")
    store.delete("a/b.txt")
    assert store.names("a") == ["c"]
    store.delete_folder("a")
    assert not store.exists("a")


def test_a_run_in_memory_is_cut_and_goes_on_as_if_it_had_not(memory: str, tmp_path: Path):
    settings = {"storage_path": memory, "name": "run", "use_gpu": False}
    with pytest.raises(Stopped):
        start_run.debug(tiny_config(), show=stop_after(5), **settings)
    assert checkpoint.names(Store(f"{memory}/run")) == ["update_000002", "update_000004"]
    start_run.debug(tiny_config(), **settings)
    debug(tmp_path)
    found = checkpoint.newest(Store(f"{memory}/run"))
    theirs = state_of(tmp_path)
    for file in ("model", "ema", "optimizer", "starts"):
        ours = found.tensors(f"{file}.safetensors")
        assert all(torch.equal(value, theirs[f"{file}/{name}"]) for name, value in ours.items())
    assert distmgcd.load(f"{memory}/run", device="cpu").update == 6


def test_processes_share_a_run_through_fsspec(tmp_path: Path):
    """dir:// of fsspec, told by the environment to be a folder on the disk."""
    environment = {**os.environ, "FSSPEC_DIR_PATH": str(tmp_path), "FSSPEC_DIR_TARGET_PROTOCOL": "file"}

    def run(*arguments: str) -> str:
        command = [str(Path(sys.executable).parent / "distmgcd"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    (tmp_path / "runs").mkdir()
    out = run("debug", str(TINY), "--storage-path", "dir://runs", "--cpu")
    assert "Finished 6 updates" in out and "dir://runs/tiny" in out
    assert {path.name for path in (tmp_path / "runs" / "tiny").iterdir()} >= {"config.yaml", "checkpoints", "log"}
    assert "tiny  finished     6/6" in run("runs", "dir://runs")
    assert run("verify", "dir://runs/tiny").count("ok ") == 5


def test_what_a_driver_raises_is_an_oserror(memory: str, monkeypatch: pytest.MonkeyPatch):
    class Refused(Exception):
        """As a library of an object store has its own."""

    store = Store(memory)

    def refuse(*_: object, **__: object) -> None:
        raise Refused("quota exceeded")

    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "open", refuse)
    with pytest.raises(OSError, match="Refused: quota exceeded"):
        store.write("x", b"")


@pytest.mark.parametrize("scheme", ["gdrive", "oss"])  # neither is a dependency of anything here
def test_a_driver_that_is_not_installed_is_one_sentence(scheme: str):
    with pytest.raises(UserError, match=f"needs an fsspec driver for {scheme}://.*install it with pip") as caught:
        Store(f"{scheme}://bucket/runs")
    assert "\n" not in str(caught.value)


def test_what_a_driver_cannot_open_is_one_sentence(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FSSPEC_DIR_PATH", "")
    with pytest.raises(UserError, match="cannot be opened by fsspec") as caught:
        Store("dir://runs")
    assert "\n" not in str(caught.value)
