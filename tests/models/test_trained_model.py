"""A trained run, loaded and sampled from."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_runs import Stopped, debug, stop_after

import distmgcd
from distmgcd.core.synthesis import draw_samples
from distmgcd.data import open_images
from distmgcd.errors import UserError
from distmgcd.models.assemble import make_langevin, make_model
from distmgcd.models.trained_model import TrainedModel
from distmgcd.runs import checkpoint, learner_state
from distmgcd.runs.run_folder import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    debug(folder, "learning.learning_rate=0.01")
    return folder / "run"


@pytest.fixture(scope="module")
def trained(run: Path) -> TrainedModel:
    return distmgcd.load(str(run), device="cpu")


def width_of(picture: Path) -> int:
    with Image.open(picture) as image:
        return image.width


def test_samples_are_pictures_of_the_finest_grid(trained):
    samples = trained.sample(5)
    assert samples.shape == (5, 1, 8, 8) and samples.dtype == torch.float32
    assert samples.min() >= -1 and samples.max() <= 1 and samples.std() > 0.01
    assert [tuple(level.shape) for level in trained.sample_pyramid(3)] == [(3, 1, 2, 2), (3, 1, 8, 8)]


@pytest.mark.parametrize("num", [1, 3, 8, 9, 20])  # 8 are drawn at once
def test_a_sample_is_the_same_however_many_are_drawn(trained, num: int):
    torch.testing.assert_close(trained.sample(num), trained.sample(20)[:num], rtol=1e-5, atol=1e-6)


def test_seeds_differ_and_one_seed_repeats(trained):
    assert torch.equal(trained.sample(4, seed=3), trained.sample(4, seed=3))
    assert not torch.equal(trained.sample(4, seed=3), trained.sample(4, seed=4))
    assert trained.sample(20).flatten(1).unique(dim=0).shape[0] == 20


def test_the_averaged_weights_draw_the_samples(trained, run: Path):
    opened = Run.open(str(run))
    found, config = checkpoint.newest(opened.store), opened.config()
    drawn = {}
    for file in ("ema.safetensors", "model.safetensors"):
        model = make_model(config)
        learner_state.load_weights(model, found, file)
        args = {"seed": 0, "sizes": config.grids.sizes, "langevin": make_langevin(config)}
        drawn[file] = draw_samples(model, found.starts(), torch.arange(4), **args)[-1]
    torch.testing.assert_close(trained.sample(4), drawn["ema.safetensors"].clamp(-1, 1), rtol=1e-5, atol=1e-6)
    assert (trained.sample(4) - drawn["model.safetensors"]).abs().max() > 1e-3


def test_samples_are_drawn_with_their_own_noise(trained):
    quiet = trained.config.langevin.model_copy(update={"sample_noise": 0.0})
    model = replace(trained, config=trained.config.model_copy(update={"langevin": quiet}))
    still = trained.config.langevin.model_copy(
        update={"temperature": (trained.config.per_grid("langevin.temperature")[0], 0.0)}
    )
    expected = replace(trained, config=trained.config.model_copy(update={"langevin": still}))
    assert torch.equal(model.sample(4), expected.sample(4))
    assert not torch.equal(model.sample(4), trained.sample(4))


def test_starts_are_those_of_the_training_images(trained):
    images = open_images("sklearn:digits", image_size=8, channels=1, split="train").images
    means = np.asarray(images, np.float64).mean((2, 3)).round()
    levels, counts = np.unique(means, return_counts=True)
    assert (
        trained.starts.levels.flatten().tolist() == levels.tolist()
        and trained.starts.counts.tolist() == counts.tolist()
    )


def test_a_run_under_way_gives_its_newest_checkpoint(tmp_path: Path):
    with pytest.raises(Stopped):
        debug(tmp_path, show=stop_after(5))
    assert distmgcd.load(str(tmp_path / "run"), device="cpu").update == 4


def test_a_run_without_a_checkpoint_says_when_there_will_be_one(tmp_path: Path):
    with pytest.raises(Stopped):
        debug(tmp_path, show=stop_after(1))
    with pytest.raises(UserError, match="no good checkpoint.*checkpoint.every=2"):
        distmgcd.load(str(tmp_path / "run"))


def test_the_sheets_of_a_run_show_its_samples(run: Path):
    assert width_of(run / "samples.png") > 100 and width_of(run / "pyramid.png") > 100


# The command


def test_sample_writes_a_sheet(command, run: Path, tmp_path: Path):
    status, out, _ = command("sample", run, "--num", 4, "--out", tmp_path / "new" / "sheet.png", "--cpu")
    assert status == 0 and "4 samples" in out and "update 6" in out
    assert width_of(tmp_path / "new" / "sheet.png") > 100


def test_sample_writes_data_that_the_trainer_reads(command, run: Path, tmp_path: Path, trained):
    for name in ("x.npz", "x.parquet"):
        assert command("sample", run, "--num", 12, "--seed", 7, "--out", tmp_path / name, "--cpu")[0] == 0
    arrays = np.load(tmp_path / "x.npz")["images"]
    read = open_images(str(tmp_path / "x.parquet"), image_size=8, channels=1, split="train").images
    assert arrays.shape == (12, 1, 8, 8) and arrays.dtype == np.uint8
    np.testing.assert_array_equal(arrays, read)
    expected = ((trained.sample(12, seed=7) + 1) * 128).floor().clamp(0, 255).numpy()
    assert np.abs(arrays - expected).max() <= 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--out", "x.jpg"], "--out must end in .png, .npz or .parquet"),
        (["--out", "/proc/nowhere/x.png"], "cannot be written"),
        (["--gpu"], "asks for a GPU"),
    ],
)
def test_sample_answers_a_mistake_with_a_sentence(command, run: Path, arguments: list[str], words: str, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    status, _, err = command("sample", run, "--num", 1, *arguments)
    assert status == 2 and words in err and err.count("\n") == 1


def test_sample_of_what_is_no_run_says_so(command, tmp_path: Path):
    status, _, err = command("sample", tmp_path)
    assert status == 2 and f"There is no run at {tmp_path}" in err


def test_its_repr_is_one_line(tmp_path: Path):
    debug(tmp_path)
    folder = str(tmp_path / "run")
    assert repr(distmgcd.load(folder, device="cpu")) == f"TrainedModel({folder!r}, update 6, weights ema, on cpu)"
