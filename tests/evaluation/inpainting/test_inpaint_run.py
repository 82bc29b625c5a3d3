"""Tiny runs, one of whole images and one of masked ones, fill held-out digits: the file, the sheets, mistakes."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tiny_runs import debug, records_of

from distmgcd.data import open_images
from distmgcd.errors import UserError
from distmgcd.evaluation.inpainting.fills import mean_fill, score_fill
from distmgcd.evaluation.inpainting.inpaint_run import InpaintRequest, _hidden, inpaint_run
from distmgcd.evaluation.subject import choose
from distmgcd.models.sampling import as_floats
from distmgcd.models.trained_model import load
from distmgcd.training.replay.replay_update import replay

NUM = 30


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    debug(folder, name="whole")
    debug(folder, "learning.mask=square", name="masked")
    return folder


@pytest.fixture(scope="module")
def record(runs: Path) -> dict[str, Any]:
    request = InpaintRequest(num=NUM, against=(str(runs / "whole"), str(runs / "masked")))
    return inpaint_run(str(runs / "masked"), request, use_gpu=False)


def test_a_masked_run_is_replayed_with_its_known_pixels_held(runs: Path):
    found = replay(str(runs / "masked"), update=4, images="all", device="cpu")
    (logged,) = (record for record in records_of(runs, "masked") if record["update"] == 4 and "grids" in record)
    for grid in found.grids:
        drift = grid.drift[-1].square().mean().sqrt().item()
        assert drift == pytest.approx(logged["grids"][str(grid.size)]["drift"], rel=1e-5)
    finest = found.grids[-1]
    still = (finest.pictures == finest.observed).all(0).flatten(1)
    assert still.sum(1).tolist() == [48] * 8  # of 64 pixels


def test_everything_is_in_the_file_with_its_protocol(runs: Path, record: dict[str, Any]):
    written = json.loads(Path(record["file"]).read_text())
    assert written == {key: record[key] for key in ("identity", "measured", "results")}
    assert Path(record["file"]) == runs / "masked" / "inpainting" / f"update_000006-ema-n{NUM}-seed0.json"
    identity = written["identity"]
    assert identity["num"] == NUM and identity["steps"] == {"2": 2, "8": 2} and "ema" in identity["weights"]
    assert "[test]" in identity["images"] and len(identity["weights_sha256"]) == 64 and identity["seed"] == 0
    assert list(written["results"]) == ["square", "doodle", "pepper"]
    for mask, found in written["results"].items():
        assert found["hidden"] == pytest.approx(0.6 if mask == "pepper" else 0.25, abs=0.01)
        assert [name for name in found["fills"] if name != "biharmonic"] == ["run", "against", "against 2", "mean"]
        protocol = found["protocol"]
        assert protocol["against"]["run"] == "whole" and "zero-shot" in protocol["against"]["trained"]
        assert "[0, 1]" in protocol["error"] and mask in protocol["mask"]
    told = [written["results"][mask]["protocol"]["trained"] for mask in ("square", "doodle")]
    assert told == ["trained for it", "trained for square masks"]


def test_the_numbers_are_those_of_the_held_out_images(runs: Path, record: dict[str, Any]):
    trained = load(str(runs / "masked"), device="cpu")
    held_out = open_images("sklearn:digits", image_size=8, channels=1, split="test")
    indices = torch.from_numpy(choose(held_out, NUM, key=0).rows)
    truth, hidden = as_floats(held_out.images[indices.numpy()]), _hidden("square", indices, 8, 0)
    filled = trained.inpaint(truth, hidden, indices=indices)
    assert torch.equal(filled.masked_select(~hidden), truth.masked_select(~hidden))
    fills = record["results"]["square"]["fills"]
    assert fills["run"] == pytest.approx(score_fill(filled, truth, hidden)._asdict(), rel=1e-5)
    assert fills["mean"] == pytest.approx(score_fill(mean_fill(truth, hidden), truth, hidden)._asdict(), rel=1e-5)
    assert fills["run"] == fills["against 2"] != fills["against"]


def test_sheets_can_be_opened(record: dict[str, Any]):
    names = [Path(sheet).name.rsplit("-")[-1] for sheet in record["sheets"]]
    assert names == ["square.png", "doodle.png", "pepper.png"]
    for sheet in record["sheets"]:
        with Image.open(sheet) as image:
            assert image.width > 800


# As a command


def test_the_command_fills_pictures_of_ones_own_by_a_painted_mask(command, runs: Path, tmp_path: Path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(3):
        Image.new("L", (8, 8), 40 * number).save(pictures / f"{number}.png")
    painted = Image.new("L", (8, 8))
    painted.paste(255, (0, 0, 4, 2))
    painted.save(tmp_path / "mine.png")
    status, out, err = command("inpaint", runs / "whole", pictures, "--mask", tmp_path / "mine.png", "--cpu")
    assert (status, err) == (0, "") and "mine.png, 12 %" in out and "zero-shot" in out and "PSNR" in out
    assert "[all]" in out  # the split, which is no markup
    (file,) = (runs / "whole" / "inpainting").glob("*-n3-seed0-*.json")
    found = json.loads(file.read_text())["results"]["mine.png"]
    assert found["hidden"] == 0.125 and len(found["protocol"]["mask_sha256"]) == 64
    assert found["fills"]["mean"]["error"] == pytest.approx(0.0, abs=1e-6)  # each is of one colour


def test_without_scikit_image_there_is_one_fill_less_and_that_is_said(runs: Path, monkeypatch: pytest.MonkeyPatch):
    def absent(*_: object) -> None:
        raise ImportError

    monkeypatch.setattr("distmgcd.evaluation.inpainting.inpaint_run.biharmonic_fill", absent)
    told = []
    request = InpaintRequest(masks=("pepper",), num=4, seed=2)
    found = inpaint_run(str(runs / "whole"), request, use_gpu=False, show=told.append)
    assert told[0] == "Filling 4 images, mask pepper ..."
    assert list(found["results"]["pepper"]["fills"]) == ["run", "mean"] and "distmgcd[metrics]" in told[-1]


def test_the_command_shows_the_mask_that_was_asked_for_and_names_those_that_the_file_holds_of_before(
    command, runs: Path
):
    for mask, earlier in (("square", ""), ("doodle", " (and square of before)")):
        status, out, err = command("inpaint", runs / "whole", "--mask", mask, "--num", 5, "--seed", 7, "--cpu")
        assert (status, err) == (0, "") and re.findall(r"│ ?(\w+), 25 %", out) == [mask]
        assert out.count("pictures  ") == 1
        assert out.endswith(f"-n5-seed7.json{earlier}\n")
    (file,) = (runs / "whole" / "inpainting").glob("*-n5-seed7.json")
    assert list(json.loads(file.read_text())["results"]) == ["square", "doodle"]


IMAGES, HIDDEN = torch.zeros(2, 1, 8, 8), torch.ones(2, 1, 8, 8, dtype=torch.bool)


@pytest.mark.parametrize(
    ("images", "hidden", "said"),
    [
        (IMAGES + 255, HIDDEN, "range from 255 to 255; if they hold 0 to 255, give (images + 0.5) / 128 - 1."),
        (IMAGES.to(torch.uint8), HIDDEN, "but are torch.uint8; if they hold 0 to 255, give (images"),
        (IMAGES * torch.nan, HIDDEN, "range from nan to nan"),
        (IMAGES[0], HIDDEN, "images must be [N, 1, 8, 8], as the run's are, but are [1, 8, 8]"),
        (IMAGES.expand(2, 3, 8, 8), HIDDEN, "but are [2, 3, 8, 8]"),
        (
            IMAGES,
            HIDDEN.float(),
            "hidden must be bool [2, 1, 8, 8], true where a pixel is hidden, but is torch.float32",
        ),
        (IMAGES, HIDDEN[:1], "but is torch.bool [1, 1, 8, 8]"),
    ],
)
def test_images_and_masks_of_another_kind_are_refused(
    runs: Path, images: torch.Tensor, hidden: torch.Tensor, said: str
):
    with pytest.raises(UserError) as caught:
        load(str(runs / "whole"), device="cpu").inpaint(images, hidden)
    assert said in str(caught.value) and str(caught.value).endswith(".")


MISTAKES = [
    (["--mask", "squares"], "--mask must be square, doodle, pepper or an image file, but 'squares'"),
    (["--mask", __file__], "is no image file that can be read"),
    (["one.png", "two.png"], "IMAGES must be one path, but 2 are given; put them into a folder"),
    (["--num", "5000"], "--num must be from 1 to 359"),
    (["/nowhere"], "The images '/nowhere' cannot be filled ("),
    (["--against", "/nowhere"], "There is no run at /nowhere"),
    (["--checkpoint", "3"], "There is no checkpoint '3'"),
]


@pytest.mark.parametrize(("arguments", "words"), MISTAKES, ids=lambda value: str(value)[-40:])
def test_a_mistake_is_one_sentence_and_nothing_is_written(command, runs: Path, tmp_path: Path, arguments: list, words):
    shutil.copytree(runs / "whole", tmp_path / "run", ignore=shutil.ignore_patterns("inpainting"))
    status, out, err = command("inpaint", tmp_path / "run", "--cpu", *arguments)
    assert status == 2 and words in err and err.count("\n") == 1 and out.count("...\n") == out.count("\n") <= 1
    assert not (tmp_path / "run" / "inpainting").exists()


def test_a_run_without_held_out_images_or_against_another_size_is_one_sentence(runs: Path, tmp_path: Path):
    shutil.copytree(runs / "whole", tmp_path / "run", ignore=shutil.ignore_patterns("inpainting"))
    config = tmp_path / "run" / "config.yaml"
    config.write_text(config.read_text().replace("held_out: test", "held_out: none"))
    with pytest.raises(UserError, match=r"has no held-out images to fill .*name images of your own after RUN\.$"):
        inpaint_run(str(tmp_path / "run"), use_gpu=False)
    debug(tmp_path, "grids.sizes=[2,4]", name="small")
    with pytest.raises(UserError, match="8x8 with 1 channels, but .*small learned 4x4 with 1; choose another run"):
        inpaint_run(str(runs / "whole"), InpaintRequest(against=(str(tmp_path / "small"),)), use_gpu=False)


def test_an_unknown_mask_of_the_config_is_one_sentence():
    from tiny_runs import tiny_config

    with pytest.raises(UserError, match="learning.mask must be one of square, doodle, pepper, or null, but is 'round'"):
        tiny_config("learning.mask=round")


def test_images_that_the_run_was_trained_on_are_spoken_of(runs: Path, tmp_path: Path):
    for row, pixels in enumerate(open_images("sklearn:digits", image_size=8, channels=1, split="train").images[:3]):
        Image.fromarray(pixels[0]).save(tmp_path / f"{row}.png")
    Image.new("L", (8, 8), 77).save(tmp_path / "new.png")
    told = []
    inpaint_run(
        str(runs / "whole"), InpaintRequest(images=str(tmp_path), masks=("square",)), use_gpu=False, show=told.append
    )
    assert told[0].startswith("3 of the 4 images of ") and "that the run was trained on" in told[0]
