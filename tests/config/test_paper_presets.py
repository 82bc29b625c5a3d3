"""The paper's presets run to a checkpoint on a small import of like images."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distmgcd.config import flatten, load_config
from distmgcd.data import import_images
from distmgcd.launch import start_run
from distmgcd.runs import checkpoint
from distmgcd.runs.run_folder import Run

PAPER = ("paper-celeba64", "paper-places", "paper-cifar10", "paper-svhn", "paper-lsun")
DIFFERENCES = {
    "network.norm": ("none", "batch"),
    "langevin.num_steps": (30, 90),
    "langevin.step_size": (1.41421356, 0.00235294),
    "langevin.temperature": (2.76817e-6, 0.0),
    "langevin.clamp": ("none", "step"),
    "langevin.reference_sigma": (235.702, float("inf")),
    "learning.learning_rate": (3e-4, 0.3),
    "watch.max_gap": (20.0, 1e12),
    "watch.max_drift": (1.0, 1e6),
}
# As little as lets every part run: the networks are the authors', in full.
SMALL = (
    "learning.num_updates=1",
    "learning.global_batch_size=2",
    "langevin.num_steps=1",
    "evaluate.num_samples=1",
    "evaluate.num_draws=1",
)


def settings_of(name: str) -> dict[str, object]:
    return flatten(load_config(name).model_dump())


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve colour pictures of odd sizes, as a category of a data set has them, brought to 64x64 in a Parquet file."""
    folder, random = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    (folder / "rock").mkdir()
    for number in range(12):
        coarse = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((90 + number, 70), Image.Resampling.BICUBIC)
        picture.save(folder / "rock" / f"{number}.jpg")
    import_images(str(folder / "rock"), str(folder / "rock64.parquet"), image_size=64)
    return folder / "rock64.parquet"


@pytest.mark.parametrize("name", PAPER)
def test_they_differ_in_their_images_only(name: str):
    ours, theirs = settings_of(name), settings_of("paper-celeba64")
    assert {key for key in ours if ours[key] != theirs[key]} <= {"data.path", "learning.num_updates"}


def test_the_code_differs_from_the_paper_in_what_is_documented():
    paper, code = settings_of("paper-celeba64"), settings_of("paper-code")
    found = {key: (paper[key], code[key]) for key in paper if paper[key] != code[key]}
    assert found == DIFFERENCES


def test_their_step_is_the_authors_in_pixels_of_0_to_255():
    """On U = V / T, of which the chain with s sqrt(T), 1 is the chain with s, T on V."""
    paper, code = (load_config(name).langevin for name in ("paper-celeba64", "paper-code"))
    to_u = math.sqrt(paper.temperature)
    assert paper.step_size * to_u * 127.5 == pytest.approx(0.3) == code.step_size * 127.5
    assert paper.reference_sigma * to_u * 127.5 == pytest.approx(50)


@pytest.mark.parametrize("name", ["paper-celeba64", "paper-code"])
def test_they_run_to_a_checkpoint(name: str, pictures: Path, tmp_path: Path):
    config = load_config(name, [f"data.path={pictures}", *SMALL])
    result = start_run.debug(config, storage_path=str(tmp_path), name="run", use_gpu=False)
    assert (result["update"], result["num_retries"]) == (1, 0)
    assert checkpoint.names(Run.open(str(tmp_path / "run")).store) == ["update_000001"]
