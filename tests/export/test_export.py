"""A tiny run, exported: what the folder holds, that it samples as the run does, and what it cannot do."""

import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from tiny_runs import debug, tiny_config

import distmgcd
from distmgcd.config import load_config
from distmgcd.core.energy import MultiGridEnergy
from distmgcd.errors import UserError
from distmgcd.evaluation.evaluate_run import evaluate_run
from distmgcd.evaluation.subject import Request
from distmgcd.export.card import command_of
from distmgcd.export.export_run import halved, public_text
from distmgcd.launch import start_run
from distmgcd.models.trained_model import TrainedModel
from distmgcd.runs import checkpoint
from distmgcd.runs.run_folder import Run
from distmgcd.training.replay.replay_update import replay

NUM = 200


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run of a folder of pictures, which only this machine has, evaluated once."""
    folder = tmp_path_factory.mktemp("exported")
    for split, num in (("train", 40), ("test", 20)):
        write_pictures(folder / "my photos" / split, num)
    path = f"data.path={folder / 'my photos'}"
    debug(folder, path, "learning.learning_rate=0.01", "langevin.num_steps=4", "evaluate.num_samples=16")
    evaluate_run(str(folder / "run"), Request(metrics=("swd",), num=20), use_gpu=False)
    return str(folder / "run")


def write_pictures(folder: Path, num: int) -> None:
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(num)
    for number in range(num):
        pixels = (torch.rand(8, 8, generator=generator) * 100 + 60 * (number % 3)).byte().numpy()
        Image.fromarray(pixels).save(folder / f"{number}.png")


@pytest.fixture(scope="module")
def exported(run: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("given") / "away"
    done = distmgcd.export_run(run, str(folder))
    assert done.folder == str(folder) and done.update == 6
    assert done.num_bytes == sum(file.stat().st_size for file in files_of(folder))
    return folder


def files_of(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.rglob("*")) if file.is_file()]


def contents_of(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in files_of(folder)}


def test_it_holds_the_averaged_weights_in_half_precision_and_the_starts_and_no_more(run: str, exported: Path):
    inside = exported / "checkpoints" / "update_000006"
    names = ["checksums.json", "ema.safetensors", "starts.safetensors", "state.json"]
    assert [file.name for file in files_of(inside)] == names
    assert [file.name for file in files_of(exported) if file.parent == exported] == [
        *("card.md", "config.yaml", "data.json", "result.json")
    ]
    before, after = (checkpoint.newest(Run.open(str(folder)).store) for folder in (run, exported))
    weights = after.tensors("ema.safetensors")
    for name, value in before.tensors("ema.safetensors").items():
        assert weights[name].dtype == torch.float16
        torch.testing.assert_close(weights[name].float(), value, rtol=2**-11, atol=2**-25)
    assert torch.equal(before.starts().levels, after.starts().levels)
    assert torch.equal(before.starts().counts, after.starts().counts.long())


def test_its_samples_are_those_of_the_run_up_to_the_rounding_of_weights(run: str, exported: Path):
    """Chains magnify rounding, so the bound is what weights moved by as much, at random, make of the samples."""
    ours, theirs, moved = (distmgcd.load(str(folder), device="cpu") for folder in (run, exported, run))
    move_weights(moved.model, by=2**-11)
    samples, of_export, of_moved = (trained.sample(NUM) for trained in (ours, theirs, moved))
    bound = (of_moved - samples).abs()
    difference = (of_export - samples).abs()
    assert 0 < difference.mean() < 2 * bound.mean() and difference.mean() < 0.01
    standard_error = samples.std(0) / NUM**0.5
    assert ((of_export.mean(0) - samples.mean(0)).abs() < standard_error).all()


def move_weights(model: MultiGridEnergy, *, by: float) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in model.parameters():
            weights *= 1 + by * (2 * torch.rand(weights.shape, generator=generator) - 1)


def test_its_distance_to_held_out_images_is_that_of_the_run(run: str, exported: Path, tmp_path: Path):
    data = str(Path(run).parent / "my photos")
    of_run = evaluate_run(run, Request(metrics=("swd",), num=20, out=str(tmp_path)), use_gpu=False)
    found = evaluate_run(str(exported), Request(metrics=("swd",), num=20, data=data, out=str(tmp_path)), use_gpu=False)
    assert found["results"]["swd"]["samples"] == pytest.approx(of_run["results"]["swd"]["samples"], rel=0.02)
    assert Path(found["file"]).is_relative_to(tmp_path) and not (exported / "evaluation").exists()


def test_no_path_of_this_machine_is_in_it(run: str, exported: Path):
    for file, content in contents_of(exported).items():
        text = content.decode(errors="replace")
        assert str(Path(run).parent) not in text and "/tmp/" not in text, file
    assert Run.open(str(exported)).config().data.path == "my photos"


def test_its_card_tells_what_it_is(exported: Path):
    card = (exported / "card.md").read_text()
    title = card.splitlines()[0]
    assert re.fullmatch(r"# away: 8x8 grey pictures, learned from my photos in 6 updates; 1000 x SWD .*", title)
    assert "6 updates (of 6) of 8 images: 48 images seen, 1.2 times each" in card
    assert "--data PATH" in card and "`distmgcd train " in card and "cpu: 1 worker" in card
    assert "At the end of training" in card and "distmgcd evaluate --num 20 --seed 0" in card
    assert "512 directions" in card and "random images of my photos [test]" in card and "in fp16" in card


def test_the_command_of_the_card_gives_the_same_config():
    for config in (tiny_config(), load_config("paper64", ["langevin.noise=falling", "learning.clip_norm=.inf"])):
        _, _, preset, *changes, _, workers = re.findall(r"'[^']*'|\S+", command_of(config, num_workers=3))
        assert load_config(preset, [change.strip("'") for change in changes]) == config and workers == "3"


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("/home/me/a b/x.parquet", "x.parquet"),
        ("file:///home/me/x.parquet", "x.parquet"),
        ("~/x.parquet", "x.parquet"),
        ("torchvision:CIFAR10?root=/usr/share/c", "torchvision:CIFAR10"),
        ("torchvision:CIFAR10?root=/usr/c&download=1", "torchvision:CIFAR10?download=1"),
        ("359 random images of /home/me/a b/x.parquet [test]", "359 random images of x.parquet [test]"),
        ("30 images of torchvision:CIFAR10?root=/a b [test]", "30 images of torchvision:CIFAR10 [test]"),
        *((same, same) for same in ("sklearn:digits", "s3://bucket/x", "gap / drift & 1/2", "[-1, 1]", "~5 (a)/b")),
    ],
)
def test_a_public_text_names_no_folder(text: str, public: str):
    assert public_text(text) == public


def test_weights_that_half_precision_cannot_hold_are_refused():
    with pytest.raises(UserError, match="The weights a do not fit half precision"):
        halved({"a": torch.tensor([1.0, 70_000.0])})
    with pytest.raises(UserError, match="diverged"):
        halved({"a": torch.tensor([float("nan")])})
    assert halved({"n": torch.tensor(3)})["n"].dtype == torch.int64


def test_the_best_or_an_earlier_checkpoint_is_exported_without_the_result_of_the_end(run: str, tmp_path: Path):
    told = []
    assert distmgcd.export_run(run, str(tmp_path / "4"), which="4", show=told.append).update == 4
    assert not (tmp_path / "4" / "result.json").exists()
    assert "not measured" in (tmp_path / "4" / "card.md").read_text()
    assert "has no figures" in told[-1] and "my photos" in told[0]
    assert distmgcd.load(str(tmp_path / "4"), device="cpu").update == 4


def test_persistent_chains_are_left_out_and_that_is_said(command, tmp_path: Path):
    debug(
        tmp_path, "start.kind=persistent", "data.validation=0.97", "learning.num_updates=2", "evaluate.untrained=false"
    )
    status, out, _ = command("export", tmp_path / "run", "--out", tmp_path / "out")
    assert status == 0 and "The persistent chains are left out" in out
    trained = distmgcd.load(str(tmp_path / "out"), device="cpu")
    assert trained.bank is None and trained.sample(2).isfinite().all()
    status, _, err = command("sample", tmp_path / "out", "--bank", "--cpu")
    assert status == 2 and "an exported model leaves them out" in err


# What readers make of it


def test_sample_prints_the_first_line_of_the_card(command, exported: Path, tmp_path: Path):
    status, out, _ = command("sample", exported, "--num", 2, "--out", tmp_path / "x.png", "--cpu")
    assert status == 0 and "away: 8x8 grey pictures, learned from my photos in 6 updates" in out


def test_verify_and_runs_find_it_whole(command, exported: Path):
    status, out, _ = command("verify", exported)
    assert status == 0 and out.count("ok ") == 3
    status, out, _ = command("runs", exported)
    assert status == 0 and "finished" in out and "6/6" in out


def test_a_new_run_starts_from_it(exported: Path, tmp_path: Path):
    data = str(Path("sklearn:digits"))
    changes = [f"data.path={data}", "langevin.num_steps=4"]
    start_run.debug(
        tiny_config(*changes), storage_path=str(tmp_path), name="new", use_gpu=False, start_from=str(exported)
    )
    first = checkpoint.read(Run.open(str(tmp_path / "new")).store, "update_000000").tensors("model.safetensors")
    given = checkpoint.newest(Run.open(str(exported)).store).tensors("ema.safetensors")
    assert all(torch.equal(first[name], value.float()) for name, value in given.items())


def test_what_it_cannot_do_is_a_sentence_and_leaves_it_as_it_is(command, exported: Path, tmp_path: Path):
    folder = tmp_path / "copy"
    shutil.copytree(exported, folder)
    config = str(folder / "config.yaml")
    before = contents_of(folder)
    for arguments, words in (
        (
            ["debug", config, "--name", "copy", "--storage-path", tmp_path, "--cpu"],
            "no optimiser to go on with; --from",
        ),
        (["debug", "--replay", folder, "--update", 3], "cannot be replayed"),
        (["evaluate", folder, "--weights", "raw", "--cpu"], "keeps averaged weights only"),
        (["debug", config, "--name", "n", "--from", folder, "--from-weights", "raw"], "keeps averaged weights only"),
        (["export", folder, "--out", tmp_path / "again"], "is an exported model already"),
        (["export", exported, "--out", folder], "is there already and holds files"),
        (["evaluate", folder, "--metrics", "swd", "--cpu"], "--data PATH says where they are now"),
    ):
        if "--name" in arguments:
            arguments = [*arguments, "data.path=sklearn:digits"]
        status, _, err = command(*arguments)
        assert status == 2 and words in err and err.count("\n") == 1, (arguments, err)
    assert contents_of(folder) == before
    with pytest.raises(UserError, match="cannot be replayed"):
        replay(str(folder), update=2)


def test_a_damaged_export_is_damaged(exported: Path, tmp_path: Path):
    shutil.copytree(exported, tmp_path / "copy")
    (tmp_path / "copy" / "checkpoints" / "update_000006" / "starts.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="Every checkpoint of the run .* is damaged"):
        distmgcd.load(str(tmp_path / "copy"))


@pytest.mark.parametrize(
    ("out", "words"),
    [("/proc/nowhere", "--out /proc/nowhere cannot be written"), ("pretrained:digits", "never written")],
)
def test_a_place_that_cannot_be_written_is_a_sentence(command, run: str, out: str, words: str):
    status, _, err = command("export", run, "--out", out)
    assert status == 2 and words in err and err.count("\n") == 1


def test_its_config_is_the_runs_own_but_for_the_place_of_the_images(run: str, exported: Path):
    ours, theirs = (yaml.safe_load((Path(folder) / "config.yaml").read_text()) for folder in (run, exported))
    assert ours["data"].pop("path") != theirs["data"].pop("path") and ours == theirs
    assert isinstance(distmgcd.load(str(exported), device="cpu"), TrainedModel)
