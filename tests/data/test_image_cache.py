"""Decoded images: built once, shared, rebuilt when damaged."""

import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from places import ROOT
from small_images import open_and_count, open_train, png, random_images, write_encoded

from distmgcd.data import image_cache, open_images
from distmgcd.errors import UserError

IMAGES = random_images(20)
PNGS = [png(image) for image in IMAGES]


@pytest.fixture
def file(tmp_path) -> str:
    return write_encoded(tmp_path / "images.parquet", PNGS, splits=["train", "test"] * 10, labels=list(range(20)))


@pytest.fixture
def num_builds(monkeypatch) -> list:
    """Grows by one item for every entry that is built."""
    builds = []
    build = image_cache.build
    monkeypatch.setattr(image_cache, "build", lambda *args, **kwargs: builds.append(1) or build(*args, **kwargs))
    return builds


def test_a_split_holds_its_own_pixels_labels_and_rows(file, cache):
    train = open_train(file, cache)
    np.testing.assert_array_equal(train.images, np.moveaxis(IMAGES[::2], 3, 1))
    assert train.rows.tolist() == train.labels.tolist() == list(range(0, 20, 2))
    assert train.rows.dtype == train.labels.dtype == np.int64
    assert len(train) == 10 and (train.channels, train.image_size) == (3, 8) and train.skipped == ()
    assert open_train(file, cache, split="all").rows.tolist() == list(range(20))


def test_two_parts_of_a_split_share_no_image_and_are_not_in_the_order_of_the_file(file, cache):
    fit, validation = (open_train(file, cache, split="all", part=part) for part in ((0.0, 0.75), (0.75, 1.0)))
    assert (len(fit), len(validation)) == (15, 5)
    assert sorted([*fit.rows, *validation.rows]) == list(range(20))
    assert validation.rows.tolist() not in (list(range(15, 20)), list(range(5)))
    np.testing.assert_array_equal(validation.images, np.moveaxis(IMAGES[validation.rows], 3, 1))
    assert "25 %" in validation.name


def test_images_are_memory_mapped_and_nothing_can_be_written(file, cache):
    train = open_train(file, cache)
    assert isinstance(train.images, np.memmap)
    assert not any(array.flags.writeable for array in (train.images, train.labels, train.rows))


def test_a_second_opening_decodes_nothing(file, cache, num_builds, monkeypatch):
    open_train(file, cache)
    monkeypatch.setattr("distmgcd.data.sources.pixels.decode", None)
    start_seconds = time.monotonic()
    open_train(file, cache)
    assert time.monotonic() - start_seconds < 0.2
    assert len(num_builds) == 1


def test_another_size_split_or_source_is_another_entry(file, cache, num_builds, tmp_path):
    open_train(file, cache)
    open_train(file, cache, image_size=4)
    open_train(file, cache, split="test")
    os.utime(file, ns=(1, 1))
    open_train(file, cache)
    assert len(num_builds) == 4


def test_the_content_is_that_of_the_pixels_whatever_they_are_stored_in(file, cache, tmp_path):
    train = open_train(file, cache)
    copy = write_encoded(tmp_path / "elsewhere" / "copy.pq", PNGS[::2], splits=["train"] * 10)
    again = open_train(copy, cache)
    assert again.content == train.content and again.fingerprint != train.fingerprint
    others = (open_train(file, cache, split="test"), open_train(file, cache, image_size=4))
    assert len({train.content, *(other.content for other in others)}) == 3
    assert len(set(train.hashes.tolist())) == 10 and again.hashes.tolist() == train.hashes.tolist()
    assert train.split_origin == "column 'split'"


@pytest.mark.parametrize("name", ["images.u8", "labels.npy", "rows.npy", "hashes.npy", "entry.json"])
@pytest.mark.parametrize("damage", ["cut short", "removed"])
def test_a_damaged_entry_is_built_again(file, cache, num_builds, name, damage):
    expected = np.array(open_train(file, cache).images)
    victim = next(cache.glob(f"*/{name}"))
    if damage == "removed":
        victim.unlink()
    else:
        victim.write_bytes(victim.read_bytes()[:-3])
    again = open_train(file, cache)
    np.testing.assert_array_equal(again.images, expected)
    assert again.labels.tolist() == list(range(0, 20, 2)) and len(num_builds) == 2


def test_what_a_killed_process_left_is_cleared(file, cache, num_builds):
    train = open_train(file, cache)
    entry = cache / train.fingerprint
    entry.rename(entry.with_suffix(".unfinished"))
    open_train(file, cache)
    assert sorted(path.name for path in cache.iterdir()) == [entry.name, f"{entry.name}.lock"]


def test_processes_that_open_at_the_same_moment_build_once(file, cache):
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(3), context.Queue()
    processes = [context.Process(target=open_and_count, args=(file, cache, barrier, results)) for _ in range(3)]
    for process in processes:
        process.start()
    found = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert sum(num_builds for num_builds, _ in found) == 1
    assert {pixels for _, pixels in found} == {np.moveaxis(IMAGES[::2], 3, 1).tobytes()}


def test_corrupt_rows_are_skipped_up_to_the_limit_which_may_change_later(tmp_path, cache, num_builds):
    images = [*PNGS[:3], b"rubbish", *PNGS[4:9], PNGS[9][:60], *PNGS[10:]]
    file = write_encoded(tmp_path / "bad.parquet", images, splits=["train"] * 20, labels=list(range(20)))
    with pytest.raises(
        UserError,
        match=r"data\.max_corrupt .* 0\.05 .* 2 of 20 .*: row 3 of .*bad\.parquet \(7.*, row 9 of .*raise data\.max",
    ):
        open_train(file, cache, max_corrupt=0.05)
    train = open_train(file, cache, max_corrupt=0.1)
    assert [skipped.row for skipped in train.skipped] == [3, 9] and train.skipped[0].reason.startswith("7 bytes")
    assert train.rows.tolist() == train.labels.tolist() == [row for row in range(20) if row not in (3, 9)]
    np.testing.assert_array_equal(train.images, np.moveaxis(IMAGES[train.rows], 3, 1))
    assert len(num_builds) == 1


def test_a_split_of_nothing_but_corrupt_images_is_refused(tmp_path, cache):
    file = write_encoded(tmp_path / "bad.parquet", [b"x"] * 3, splits=["train"] * 3)
    with pytest.raises(UserError, match="no image that can be decoded"):
        open_train(file, cache, max_corrupt=1.0)


@pytest.mark.parametrize(("part", "validation"), [((0.9, 1.0), "10 %"), ((0.0, 0.1), "10 %")])
def test_a_part_that_is_none_of_a_few_images_is_refused_with_the_way_out(tmp_path, cache, part, validation):
    file = write_encoded(tmp_path / "few.parquet", PNGS[:4], splits=["train"] * 4)
    said = rf"'train' of data\.path '.*few\.parquet' has 4 images, of which {validation} are none.*another data\.valid"
    for _ in range(2):
        with pytest.raises(UserError, match=said):
            open_train(file, cache, part=part)
    assert not list(cache.glob("*/entry.json"))


def test_a_split_whose_file_has_no_rows_is_refused(tmp_path, cache):
    write_encoded(tmp_path / "data" / "train.parquet", PNGS)
    write_encoded(tmp_path / "data" / "test.parquet", [])
    with pytest.raises(UserError, match=r"'test' of .*data' has no images.* it has train \(20 images\)"):
        open_train(str(tmp_path / "data"), cache, split="test")


def test_an_entry_without_rows_that_an_earlier_version_built_is_refused_too(tmp_path, cache, monkeypatch):
    file = write_encoded(tmp_path / "few.parquet", PNGS[:4], splits=["train"] * 4)
    with monkeypatch.context() as earlier, pytest.raises(UserError, match="not there as they were written"):
        earlier.setattr(image_cache, "rows_to_open", lambda *_, **__: np.array([], dtype=np.int64))
        open_train(file, cache, part=(0.9, 1.0))
    assert len(list(cache.glob("*/entry.json"))) == 1
    with pytest.raises(UserError, match="are none"):
        open_train(file, cache, part=(0.9, 1.0))


def test_other_channels_than_asked_for_are_refused_both_ways(tmp_path, cache, file):
    grey = write_encoded(tmp_path / "grey.parquet", [png(image) for image in random_images(4, channels=1)])
    with pytest.raises(UserError, match=r"data\.channels=3 .* row 0 of .* is grey .*; set data\.channels=1 if all"):
        open_train(grey, cache)
    with pytest.raises(UserError, match=r"data\.channels=1 .* row 1 of .* is colour .*; set data\.channels=3 if all"):
        open_train(file, cache, channels=1, split="test")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"split": "valid"}, r"data\.split='valid' is not in .*; it has train \(10 images\), test \(10 images\)"),
        ({"image_size": 0}, r"data\.image_size must be at least 1 pixel, but is 0"),
        ({"channels": 4}, r"data\.channels must be 1 \(grey\) or 3 \(colour\), but is 4"),
        ({"max_corrupt": 2}, r"data\.max_corrupt must be a fraction from 0 to 1, but is 2"),
    ],
)
def test_a_setting_out_of_range_is_named_with_the_way_out(file, cache, changes, sentence):
    with pytest.raises(UserError, match=sentence):
        open_train(file, cache, **changes)


def test_a_cache_that_cannot_be_written_is_named(file, tmp_path):
    (tmp_path / "taken").write_text("a file, not a folder")
    with pytest.raises(UserError, match=r"cannot be written .* set DISTMGCD_CACHE"):
        open_train(file, tmp_path / "taken" / "cache")


def test_the_default_folder_comes_from_the_environment(file, cache, monkeypatch):
    monkeypatch.setenv("DISTMGCD_CACHE", str(cache))
    train = open_images(file, image_size=8, channels=3, split="train")
    assert (cache / train.fingerprint / "images.u8").stat().st_size == 10 * 3 * 8 * 8


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is measured through Linux's /proc")
def test_opening_keeps_no_image_in_the_memory_of_the_process(tmp_path, cache):
    # 32 MiB of pixels in one entry; the process may grow by far less, having built or not.
    file = write_encoded(tmp_path / "large.parquet", [png(np.zeros((8, 8, 3), np.uint8))] * 170)
    code = (
        "import sys, re; from pathlib import Path; from distmgcd.data import open_images\n"
        "anonymous = lambda: int(re.search(r'RssAnon:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])\n"
        "before = anonymous()\n"
        "train = open_images(sys.argv[1], image_size=256, channels=3, split='all', cache_dir=Path(sys.argv[2]))\n"
        "assert train.images.nbytes > 32e6; int(train.images.max())\n"
        "print(anonymous() - before)"
    )
    command = [sys.executable, "-c", code, file, str(cache)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, check=True, env=environment)
    opened = subprocess.run(command, check=True, env=environment, capture_output=True, text=True)
    assert int(opened.stdout) < 8_000  # KiB


def test_real_files_open_as_they_say(shared_file, cache):
    wanted = (("fashion_mnist_12k.parquet", 28, 1, 2000), ("cifar10_lossless_train4000.parquet", 32, 3, 1000))
    for name, size, channels, num_images in wanted:
        test = open_images(shared_file(name), image_size=size, channels=channels, split="test", cache_dir=cache)
        assert test.images.shape == (num_images, channels, size, size) and not test.skipped
        assert set(test.labels.tolist()) == set(range(10)) and 40 < test.images.mean() < 150
