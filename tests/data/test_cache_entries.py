"""What is in the cache of decoded images, and how some of it is deleted, never what a process has open."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from places import ROOT
from small_images import png, random_images, write_encoded

from distmgcd.data import cache_folder as folder
from distmgcd.data import image_cache, open_images
from distmgcd.data.cache_folder import chosen, delete, entries, lock_of, locked, only_user
from distmgcd.errors import UserError

IMAGES = random_images(20)
DAY_S = 24 * 3600


@pytest.fixture
def file(tmp_path: Path) -> str:
    pngs = [png(image) for image in IMAGES]
    return write_encoded(tmp_path / "images.parquet", pngs, splits=["train", "test"] * 10, labels=list(range(20)))


def open_split(file: str, cache: Path, split: str = "train"):
    return open_images(file, image_size=8, channels=3, split=split, cache_dir=cache)


def names_of(cache: Path) -> list[str]:
    return [entry.name for entry in entries(cache)]


def test_entries_are_listed_with_size_data_set_and_use_and_nothing_else_is(file: str, cache: Path):
    assert entries(cache) == []
    train = open_split(file, cache)
    name = open_split(file, cache, "test").fingerprint
    os.utime(cache / name / "entry.json", (1e9, 1e9))
    (cache / "torchvision").mkdir()
    first, second = entries(cache)
    assert (first.name, first.of, first.in_use) == (train.fingerprint, f"{file} [train]", True)
    assert (second.name, second.of, second.in_use) == (name, f"{file} [test]", False)
    assert first.shape == (10, 3, 8, 8) and abs(first.last_used - time.time()) < 60 and second.last_used == 1e9
    assert first.num_bytes == sum(part.stat().st_size for part in (cache / first.name).iterdir()) > 10 * 3 * 8 * 8


def test_a_deleted_entry_is_gone_and_built_again_when_it_is_needed(file: str, cache: Path):
    name = open_split(file, cache).fingerprint
    assert delete(cache, name) and entries(cache) == []
    assert [path.name for path in cache.iterdir()] == [f"{name}.lock"]
    np.testing.assert_array_equal(open_split(file, cache).images, np.moveaxis(IMAGES[::2], 3, 1))
    assert names_of(cache) == [name]


def test_what_is_open_is_kept_until_its_last_picture_is_let_go(file: str, cache: Path):
    train = open_split(file, cache)
    name, few = train.fingerprint, train.images[2:4]
    del train
    assert not delete(cache, name)
    np.testing.assert_array_equal(few, np.moveaxis(IMAGES[4:8:2], 3, 1))
    del few
    assert delete(cache, name)


def test_what_another_process_has_open_is_kept_until_it_ends_however_it_ends(file: str, cache: Path):
    code = (
        "import sys, time; from pathlib import Path; from distmgcd.data import open_images\n"
        "train = open_images(sys.argv[1], image_size=8, channels=3, split='train', cache_dir=Path(sys.argv[2]))\n"
        "print(train.fingerprint, flush=True); time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, file, str(cache)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        name = process.stdout.readline().strip()
        assert not delete(cache, name) and (cache / name / "images.u8").exists()
        process.kill()
    assert delete(cache, name) and not (cache / name).exists()


def test_what_is_being_built_is_kept(file: str, cache: Path):
    name = open_split(file, cache).fingerprint
    with locked(lock_of(cache / name)):
        assert entries(cache)[0].in_use and not delete(cache, name)
    assert not entries(cache)[0].in_use and delete(cache, name)


@pytest.mark.parametrize("rebuilt", [False, True])
def test_what_is_deleted_while_it_is_opened_is_opened_again(file: str, cache: Path, monkeypatch, rebuilt: bool):
    name, flock = open_split(file, cache).fingerprint, folder.fcntl.flock

    def flock_later(descriptor, kind: int) -> None:
        monkeypatch.setattr(folder.fcntl, "flock", flock)
        assert kind == folder.fcntl.LOCK_SH and delete(cache, name)
        if rebuilt:
            open_split(file, cache)
        flock(descriptor, kind)

    monkeypatch.setattr(folder.fcntl, "flock", flock_later)
    again = open_split(file, cache)
    np.testing.assert_array_equal(again.images, np.moveaxis(IMAGES[::2], 3, 1))
    assert again.labels.tolist() == list(range(0, 20, 2)) and not delete(cache, name)


def test_what_killed_processes_left_is_listed_and_deleted(file: str, cache: Path):
    name, other = (open_split(file, cache, split).fingerprint for split in ("train", "test"))
    (cache / name).rename(cache / f"{name}.unfinished")
    (cache / other).rename(cache / f"{other}.deleted")
    found = entries(cache)
    assert {entry.in_words for entry in found} == {"left by a process that was killed"}
    assert all(entry.num_bytes > 10 * 3 * 8 * 8 and not entry.in_use for entry in found)
    assert delete(cache, name) and delete(cache, other) and entries(cache) == []


def test_nobody_builds_what_is_being_deleted_even_if_its_lock_was_deleted_by_hand(file, cache, monkeypatch):
    name, rename, free = open_split(file, cache).fingerprint, Path.rename, []
    lock_of(cache / name).unlink()

    def rename_and_look(path: Path, target: Path) -> Path:
        with only_user(lock_of(cache / name)) as unused:
            free.append(unused)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", rename_and_look)
    assert delete(cache, name) and free == [False]


def test_where_there_are_no_locks_entries_open_but_none_is_deleted(file: str, cache: Path, monkeypatch):
    name = open_split(file, cache).fingerprint

    def flock(*_: object) -> None:
        raise OSError("No locks available")

    monkeypatch.setattr(folder.fcntl, "flock", flock)
    assert len(open_split(file, cache)) == 10
    assert not delete(cache, name) and names_of(cache) == [name]


def test_entries_are_chosen_by_the_beginnings_of_their_names_and_by_age(file: str, cache: Path):
    train, test = (open_split(file, cache, split).fingerprint for split in ("train", "test"))
    os.utime(cache / test / "entry.json", (time.time() - 3 * DAY_S,) * 2)
    found = entries(cache)
    for names, older_than, expected in [
        ([], None, [train, test]),
        ([], 2.0, [test]),
        ([], 4.0, []),
        ([], 0.0, [train, test]),
        ([train[:8]], None, [train]),
        ([train[:8]], 2.0, []),
        ([test, test[:8], train], None, [test, train]),
    ]:
        assert [entry.name for entry in chosen(found, names, older_than=older_than)] == expected
    open_split(file, cache, "test")
    assert chosen(entries(cache), [], older_than=2.0) == []


@pytest.mark.parametrize(("name", "words"), [("zz", "no entry of the cache"), ("", "2 entries of the cache")])
def test_a_name_that_is_not_one_entrys_is_told(file: str, cache: Path, name: str, words: str):
    for split in ("train", "test"):
        open_split(file, cache, split)
    with pytest.raises(UserError, match=words):
        chosen(entries(cache), [name])


def test_an_entry_of_somebody_else_opens_and_its_deletion_is_told(file: str, cache: Path, monkeypatch):
    name = open_split(file, cache).fingerprint

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(image_cache.os, "utime", refuse)
    assert len(open_split(file, cache)) == 10
    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(UserError, match=rf"{name} of the cache .* cannot be deleted \(Permission denied\)"):
        delete(cache, name)
    assert names_of(cache) == [name]


def test_the_command_lists_and_deletes(command, file: str, cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DISTMGCD_CACHE", str(cache))
    status, out, _ = command("data", "cache")
    assert status == 0 and "0 entries, 0.0 KiB" in out
    train, test = open_split(file, cache), open_split(file, cache, "test").fingerprint
    status, out, _ = command("data", "cache")
    assert status == 0 and "2 entries" in out and out.count("10 of 3x8x8") == 2 and out.count("in use") == 1
    assert f"{file} [train]" in out and f"{file} [test]" in out and str(cache) in out
    status, out, err = command("data", "cache", "--delete")
    assert (status, out) == (2, "") and "--delete must be told what" in err and len(entries(cache)) == 2
    status, out, _ = command("data", "cache", "--delete", "--older-than", "1")
    assert status == 0 and "0.0 KiB are free again" in out and len(entries(cache)) == 2
    status, out, _ = command("data", "cache", "--delete", "--older-than", "0")
    assert status == 0 and f"deleted {test[:8]}" in out and f"kept, for it is in use: {train.fingerprint[:8]}" in out
    assert names_of(cache) == [train.fingerprint]
    status, out, err = command("data", "cache", "zz", "--delete")
    assert (status, out) == (2, "") and "no entry of the cache begin" in err and err.count("\n") == 1
