"""What a user is told before a training begins."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny_runs import debug, tiny_config

from distmgcd.errors import UserError
from distmgcd.evaluation.distances.few_images import too_few
from distmgcd.evaluation.distances.swd import sliced_wasserstein
from distmgcd.launch import start_lines
from distmgcd.models.assemble import open_held_out_images, open_training_images


def lines_of(folder: Path, *changes: str) -> list[str]:
    shown = []
    debug(folder, *changes, show=shown.append)
    return [record["start"] for record in shown if "start" in record]


def test_how_many_images_there_are_and_why_so_many_are_held_out(tmp_path: Path):
    images, *_ = lines_of(tmp_path)
    assert images.startswith(
        "Images: 1,438 to learn from, 359 held out (data.split=train and data.held_out=test; splits"
    )
    assert "every 5th row is test" in images


def test_what_a_run_costs_is_said_before_it_starts(tmp_path: Path):
    _, cost, *_ = lines_of(tmp_path)
    assert cost.startswith("Cost: 6 updates of 8 images see 48 images (0.0334 epochs of 1,438 images) and take ")
    assert cost.endswith("How long that takes here is measured in the first updates.")


def test_a_validation_part_is_said_to_be_one(tmp_path: Path):
    images, *_ = lines_of(tmp_path, "data.validation=0.25")
    why = "data.validation=0.25 keeps a part of 'train' out, in place of 'test'"
    assert images.startswith(f"Images: 1,078 to learn from, 360 held out ({why}). Not used: test (359 images); splits")


@pytest.mark.parametrize("changes", [["data.held_out=train"], ["data.split=test"], ["data.held_out=training"]])
def test_the_split_that_is_learned_from_is_not_the_one_that_is_held_out(tmp_path: Path, changes: list[str]):
    with pytest.raises(UserError, match=r"^data\.split and data\.held_out must differ, but .*; name another split"):
        debug(tmp_path, *changes)


def test_a_run_that_was_begun_with_one_split_for_both_still_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as as_before:
        as_before.setattr(start_lines, "check_different_splits", lambda *_: None)
        debug(tmp_path, "data.held_out=train", "learning.decay_updates=3")
    longer = debug(tmp_path, "data.held_out=train", "learning.decay_updates=3", "learning.num_updates=7")
    assert longer["update"] == 7


def test_a_split_that_nobody_asked_for_is_said_to_be_unused(tmp_path: Path):
    for name, num in {"train": 8, "val": 3, "test": 4}.items():
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(num):
            Image.new("L", (8, 8), 10 * number).save(tmp_path / "set" / name / f"{number}.png")
    path = f"data.path={tmp_path / 'set'}"
    config = tiny_config(path)
    images, held_out = open_training_images(config), open_held_out_images(config)
    assert next(start_lines.start_lines(config, images, held_out)).endswith(" Not used: val (3 images).")


@pytest.mark.parametrize(("num_updates", "words"), [(20, "rises over the first 2."), (6, "so there is none.")])
def test_a_warm_up_that_does_not_fit_is_shortened_and_that_is_said(tmp_path: Path, num_updates: int, words: str):
    (said,) = (
        line
        for line in lines_of(tmp_path, "learning.warmup=50", f"learning.num_updates={num_updates}")
        if "warm" in line
    )
    assert said.startswith(f"learning.warmup=50 does not fit into {num_updates} updates, so") and words in said


def test_a_finished_run_that_is_asked_for_again_is_not_introduced(tmp_path: Path):
    assert lines_of(tmp_path) and not lines_of(tmp_path)


@pytest.mark.parametrize(
    ("num_held_out", "num_samples", "way_out"),
    [(30, 2000, "give more images"), (359, 40, "raise evaluate.num_samples"), (359, 1000, None), (110, 2000, None)],
)
def test_too_few_held_out_images_are_a_warning(num_held_out: int, num_samples: int, way_out: str | None):
    warning = too_few(tiny_config(f"evaluate.num_samples={num_samples}"), num_held_out)
    assert (warning is None) == (way_out is None)
    if warning:
        assert (
            f"{min(num_held_out, num_samples)} held-out images against {num_samples}" in warning and way_out in warning
        )


@pytest.mark.parametrize("num", [30, 100, 400])
def test_the_floor_of_the_distance_is_what_the_derivation_says(num: int):
    """1.29 s sqrt(1/n + 1/m) for normal images; the mean over 8 pairs of sets is within a tenth of it."""
    generator = torch.Generator().manual_seed(0)
    found = [
        sliced_wasserstein(
            *(0.3 * torch.randn(size, 1, 4, 4, generator=generator) for size in (num, 500)), num_directions=64
        )
        for _ in range(8)
    ]
    assert sum(found) / 8 == pytest.approx(1.29 * 0.3 * (1 / num + 1 / 500) ** 0.5, rel=0.1)


def test_black_pixels_around_every_image_are_spoken_of(tmp_path: Path):
    said = (
        "data.pad=1 adds 1 black pixel on each side of every image before it is resized to 8x8. data.pad=0 adds none."
    )
    assert said in lines_of(tmp_path, "data.pad=1")
    assert not any("data.pad" in line for line in lines_of(tmp_path / "other"))


def test_the_way_out_of_too_few_held_out_images_is_a_setting():
    assert "data.validation=0.2 (a fifth of the training images)" in too_few(tiny_config(), 5)
    assert "data.validation" not in too_few(tiny_config("data.validation=0.25"), 5)
