"""What is told of images before they are trained on: copies, flat images, transparency."""

import numpy as np
import pytest
from PIL import Image
from small_images import encoded, png, random_images, write_encoded

from distmgcd.config import load_config
from distmgcd.data import describe, import_images, notes_of, open_images
from distmgcd.launch.start_run import claimed
from distmgcd.models.assemble import open_held_out_images, open_training_images

PNGS = [png(image) for image in random_images(12, channels=1)]


@pytest.fixture
def leaky(tmp_path, monkeypatch) -> list[str]:
    """Changes of a config: 8 images to train on, two of them the same, and 4 held out, two of them among the 8."""
    monkeypatch.setenv("DISTMGCD_CACHE", str(tmp_path / "cache"))
    train, test = [*PNGS[:7], PNGS[0]], [*PNGS[5:7], *PNGS[10:]]
    file = write_encoded(tmp_path / "a.parquet", [*train, *test], splits=["train"] * 8 + ["test"] * 4)
    return [f"data.path={file}", "learning.global_batch_size=2"]


def line_drawing(*, colour: int = 0) -> Image.Image:
    alpha = np.zeros((8, 8), np.uint8)
    alpha[2] = 255
    return Image.merge("LA", [Image.new("L", (8, 8), colour), Image.fromarray(alpha)])


def test_copies_in_one_set_and_across_two_are_counted(leaky):
    config = load_config("digits", leaky)
    images, held_out = open_training_images(config), open_held_out_images(config)
    assert images.notes == ("1 of 8 images (train) repeat another of them, pixel by pixel.",) and not held_out.notes
    shared, repeated = notes_of(images, held_out)
    assert shared.startswith("2 of 4 held-out images (50 %) are also among the images to train on, pixel by pixel")
    assert "data.leave_out_copies=true" in shared and repeated == images.notes[0]
    assert notes_of(images, images)[1:] == images.notes  # each once


def test_copies_of_held_out_images_are_left_out_of_training_where_that_is_asked_for(leaky):
    config = load_config("digits", [*leaky, "data.leave_out_copies=true"])
    images, held_out = open_training_images(config), open_held_out_images(config)
    assert images.rows.tolist() == [0, 1, 2, 3, 4, 7] and len(held_out) == 4
    assert not np.isin(held_out.hashes, images.hashes).any()
    assert "Images left out of train because they are held out, too: 2." in notes_of(images, held_out)


def test_a_training_says_at_its_start_what_is_odd_about_its_images(leaky, tmp_path):
    told = []
    how = {"storage_path": str(tmp_path / "runs"), "name": "a", "num_workers": 1}
    with claimed(load_config("digits", leaky), show=told.append, **how):
        pass
    assert any("2 of 4 held-out images" in str(line) for line in told)
    assert any("1 of 8 images (train) repeat" in str(line) for line in told)


@pytest.mark.parametrize(("background", "level"), [("black", 0), ("white", 255), ("#808080", 128)])
def test_black_lines_on_nothing_are_seen_over_another_background_only(background, level, tmp_path, cache):
    for number in range(2):
        line_drawing().save(tmp_path / f"{number}.png")
    found = open_images(
        str(tmp_path), image_size=8, channels=1, split="all", background=background, pad=1, cache_dir=cache
    )
    notes = " ".join(found.notes)
    assert (
        f"2 of 2 images (all) are transparent, 2 of them in more than half of their pixels, and lie over {background};"
    )
    assert f"lie over {background}; data.background is the colour" in notes
    assert ("one value all over and the same one, level 0 of 0 to 255" in notes) == (background == "black")
    assert found.images[0, 0, 0, 0] == level and found.images[0, 0].min() < 20


def test_an_import_and_a_description_tell_it_too(tmp_path):
    for number in range(3):
        line_drawing(colour=200).save(tmp_path / f"{number}.png")
    report = import_images(str(tmp_path), str(tmp_path / "out.parquet"), background="white")
    notes = " ".join(report.notes)
    assert "2 of 3 images (all splits) repeat" in notes and "lie over white; --background is the colour" in notes
    assert "3 of 3 images (looked at) are transparent" in " ".join(describe(str(tmp_path / "*.png")).notes)
    assert not any("transparent" in note for note in describe(str(report.path)).notes)


def test_a_description_of_all_images_counts_copies_between_splits(leaky):
    found = describe(leaky[0].removeprefix("data.path="), num_samples=None)
    assert "Images of test that are also in train, pixel by pixel: 2." in found.notes and found.num_sampled == 12


def test_images_without_anything_odd_have_no_note(tmp_path, cache):
    file = write_encoded(tmp_path / "a.parquet", [*PNGS[:3], encoded(Image.new("L", (8, 8), 3), "BMP")])
    assert open_images(file, image_size=8, channels=1, split="train", cache_dir=cache).notes == (
        "1 of 4 images (train) are one value all over and the same one, level 3 of 0 to 255: there is nothing to see "
        "in them.",
    )
    file = write_encoded(tmp_path / "b.parquet", PNGS[:3])
    assert open_images(file, image_size=8, channels=1, split="train", cache_dir=cache).notes == ()
