"""The models that come with the package: small, whole, in the wheel, and never written."""

import fnmatch
import re
import tomllib
from pathlib import Path

import pytest
from places import ROOT
from tiny_runs import tiny_config

import distmgcd
from distmgcd.errors import UserError
from distmgcd.launch import start_run
from distmgcd.runs import pretrained
from distmgcd.runs.run_folder import Run
from distmgcd.runs.store import Store
from distmgcd.training.origin import read_origin

MOST_BYTES = 3e6  # of one model
MOST_BYTES_OF_ALL = 10e6
NAMES = pretrained.names()


def files_of(folder: Path) -> dict[Path, tuple[int, int]]:
    return {file: (file.stat().st_size, file.stat().st_mtime_ns) for file in folder.rglob("*") if file.is_file()}


def test_there_is_one():
    assert "digits" in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_is_whole_and_small_and_tells_what_it_is(name: str):
    run = Run.open(f"pretrained:{name}")
    assert run.name == run.store.location == f"pretrained:{name}" and not run.store.is_local
    assert sum(info.size for info in run.store.files()) <= MOST_BYTES
    assert re.match(rf"{name}: \d+x\d+ .* updates; (FD|1000 x SWD)", run.title())
    trained = distmgcd.load(f"pretrained:{name}", device="cpu")
    samples = trained.sample(1 if trained.config.image_size > 16 else 8)
    assert samples.isfinite().all() and samples.std() > 0.1


def test_all_together_are_small():
    assert sum(size for size, _ in files_of(pretrained.FOLDER).values()) <= MOST_BYTES_OF_ALL


def test_no_path_of_the_machine_they_were_trained_on_is_in_them():
    for file in files_of(pretrained.FOLDER):
        if file.suffix != ".safetensors":
            assert not re.search(r"(?:^|[\s'\"(=])(?:file://|~)?/\w", file.read_text()), file


@pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="the package is not in its repository")
def test_the_wheel_has_all_their_files():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["distmgcd"]
    for file in files_of(pretrained.FOLDER):
        name = file.relative_to(pretrained.FOLDER.parent).as_posix()
        assert any(fnmatch.fnmatch(name, pattern) and name.count("/") == pattern.count("/") for pattern in patterns), (
            name
        )


def test_a_name_that_there_is_not_lists_those_there_are(command):
    with pytest.raises(
        UserError, match=r"no pretrained model 'digts' \(did you mean 'digits'\?\); those there are: .*digits"
    ):
        distmgcd.load("pretrained:digts")
    for name in ("", "../presets", "digits/checkpoints"):
        with pytest.raises(UserError, match="There is no pretrained model"):
            Run.open(f"pretrained:{name}")
    status, _, err = command("sample", "digits")
    assert status == 2 and "did you mean pretrained:digits?" in err
    status, _, err = command("config", "pretrained:digits")
    assert status == 2 and "--from pretrained:digits" in err


def test_they_are_listed_and_their_cards_shown(command):
    status, out, _ = command("pretrained")
    assert status == 0 and all(f"pretrained:{name}: " in out for name in NAMES)
    status, out, _ = command("pretrained", "digits")
    assert status == 0 and out == (pretrained.FOLDER / "digits" / "card.md").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_it_holds_what_an_export_writes_and_nothing_else(name: str):
    folder = pretrained.FOLDER / name
    files = {file.relative_to(folder).as_posix() for file in files_of(folder)}
    weights = {file for file in files if file.startswith("checkpoints/")}
    assert files - weights <= {"card.md", "config.yaml", "data.json", "result.json"}
    assert {Path(file).name for file in weights} == {
        "checksums.json",
        "ema.safetensors",
        "starts.safetensors",
        "state.json",
    }


def test_nothing_is_written_into_one(command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    before = files_of(pretrained.FOLDER)
    few = ("--num", 40, "--cpu")
    run = "pretrained:digits"
    for arguments in (
        ("evaluate", run, "--metrics", "swd", *few),
        ("inpaint", run, "--mask", "square", *few),
        ("ood", run, *few, "--out", "elsewhere"),
        ("features", run, "--labels", 100, "--subsets", 1, "--classifiers", "svm", "--random", 0, "--cpu"),
        ("sample", run, "--num", 2, "--cpu"),
        ("verify", run),
        ("runs", run),
    ):
        status, out, err = command(*arguments)
        assert status == 0, (arguments, out, err)
    made = {file.parent.relative_to(tmp_path).as_posix() for file in files_of(tmp_path)}
    assert made == {
        ".",
        "runs/pretrained-digits/evaluation",
        "runs/pretrained-digits/inpainting",
        "elsewhere/evaluation",
    }
    store = Store(run)
    for write in (lambda: store.write("x", b""), lambda: store.delete("card.md"), lambda: store.delete_folder("log")):
        with pytest.raises(OSError, match="never written"):
            write()
    assert files_of(pretrained.FOLDER) == before


def test_a_run_that_starts_from_one_names_it_as_it_is_named_everywhere(tmp_path: Path):
    config = distmgcd.load_config("digits", ["learning.num_updates=1", "speed.execution=traced"])
    few = ["evaluate.num_samples=16", "evaluate.num_draws=1", "evaluate.untrained=false", "learning.warmup=0"]
    config = distmgcd.load_config(config.model_dump(mode="json"), few)
    how = {"storage_path": str(tmp_path), "name": "mine", "use_gpu": False, "start_from": "pretrained:digits"}
    start_run.debug(config, **how)
    assert read_origin(Run.at(str(tmp_path), "mine")).run == "pretrained:digits"
    with pytest.raises(UserError, match="pretrained:digits has networks of other shapes"):
        start_run.debug(tiny_config(), **{**how, "name": "other"})
