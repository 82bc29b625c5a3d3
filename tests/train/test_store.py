"""The folder of a run, wherever it is."""

from pathlib import Path

import pytest

from distmgcd.errors import UserError
from distmgcd.train.run import Run
from distmgcd.train.store import Store


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
