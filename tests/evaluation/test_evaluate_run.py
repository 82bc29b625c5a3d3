"""A tiny run measured whole: the file, the sheets, the table, one worker and two, and what a user can get wrong."""

import io
import json
import re
import shutil
import sys
from contextlib import redirect_stdout
from multiprocessing import active_children
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from PIL import Image
from tiny_runs import debug

from distmgcd.core.grids import pool
from distmgcd.data import open_images
from distmgcd.errors import UserError
from distmgcd.evaluation.distances.feature_statistics import Moments, frechet_distance
from distmgcd.evaluation.distances.swd import sliced_wasserstein
from distmgcd.evaluation.evaluate_run import evaluate_run
from distmgcd.evaluation.features.networks import open_features
from distmgcd.evaluation.pictures.sheet import as_levels
from distmgcd.evaluation.record import check_writable
from distmgcd.evaluation.subject import METRICS, Request, choose
from distmgcd.models.sampling import as_floats
from distmgcd.models.trained_model import load
from distmgcd.report.evaluation_tables import tables_of
from distmgcd.runs.store import Store

NUM = 40
ALL = [name for name in METRICS if name != "is"]  # what a network without classes allows


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    debug(folder, "learning.learning_rate=0.01", "learning.global_batch_size=16", "langevin.temperature=1e-3")
    return folder / "run"


@pytest.fixture(scope="module")
def record(run: Path) -> dict[str, Any]:
    return evaluate_run(str(run), Request(features="random", num=NUM), use_gpu=False)


def test_everything_is_in_the_file_with_its_protocol(run: Path, record: dict[str, Any]):
    assert list(record["results"]) == list(record["measured"]) and sorted(record["results"]) == sorted(ALL)
    written = json.loads(Path(record["file"]).read_text())
    assert written == {key: record[key] for key in ("identity", "measured", "results")}
    assert Path(record["file"]) == run / "evaluation" / f"update_000006-ema-Random-n{NUM}-seed0.json"
    identity = written["identity"]
    assert identity["num"] == NUM and identity["update"] == 6 and identity["steps"] == {"2": 2, "8": 2}
    assert "[test]" in identity["held_out"] and "[train]" in identity["data"] and "ema" in identity["weights"]
    assert all(len(identity[key]) == 64 for key in ("weights_sha256",)) and "fresh chains" in identity["samples"]
    assert identity["temperature"] == [1e-3, 1e-3] and identity["versions"]["torch"] == torch.__version__
    for name in ("fd", "kd", "pr", "nn", "diversity"):
        protocol = written["results"][name]["protocol"]
        assert protocol["features"] == "Random" and len(protocol["weights_sha256"]) == 64 and protocol["resize"]
    assert written["results"]["fd"]["name"] == "FD-Random" and "FID" not in json.dumps(written)


def test_every_number_is_what_its_metric_gives_of_the_samples(run: Path, record: dict[str, Any]):
    trained, network, results = load(str(run), device="cpu"), open_features("random"), record["results"]
    held_out = choose(open_images("sklearn:digits", image_size=8, channels=1, split="test"), NUM, key=0)
    levels = as_levels(trained.sample(NUM, seed=0))
    data = held_out(torch.arange(NUM))
    ours, theirs = as_floats(levels.numpy()), as_floats(data.numpy())
    expected = [sliced_wasserstein(pool(ours, size), pool(theirs, size)) for size in (2, 8)]
    assert list(results["swd"]["samples"].values()) == pytest.approx(expected, rel=1e-5)
    assert results["fd"]["samples"] == pytest.approx(
        frechet_distance(Moments.of(network(levels)[0]), Moments.of(network(data)[0])), rel=1e-6
    )
    assert results["chains"]["grids"]["8"]["steps"].keys() == {"2", "4", "20"}


def test_the_data_are_near_themselves_and_an_untrained_model_is_not(record: dict[str, Any]):
    for name in ("fd", "kd"):
        assert record["results"][name]["data"] < record["results"][name]["samples"]
    swd = record["results"]["swd"]
    assert all(swd["data"][size] < 0.5 * swd["samples"][size] for size in ("2", "8"))
    assert record["results"]["pr"]["data"]["precision"] > 0.5 > record["results"]["pr"]["samples"]["precision"]
    assert record["results"]["nn"]["pixels"]["ratio"] > 1.2


def test_sheets_are_written_and_can_be_opened(record: dict[str, Any]):
    names = [Path(sheet).name.rsplit("seed0-")[1] for sheet in record["sheets"]]
    assert sorted(names) == ["chains.png", "neighbours-features.png", "neighbours-pixels.png", "samples.png"]
    for sheet in record["sheets"]:
        with Image.open(sheet) as image:
            assert image.width > 200


def numbers_in(value: Any, path: str = "") -> dict[str, float]:
    if isinstance(value, dict):
        return {k: v for key, item in value.items() for k, v in numbers_in(item, f"{path}/{key}").items()}
    return {path: value} if isinstance(value, float) else {}


def test_two_workers_measure_what_one_does(run: Path, record: dict[str, Any], tmp_path: Path, monkeypatch):
    """From `python -`, whose script no process finds again; that it is left alone serves scripts without a guard, too.

    What is told reaches a function that cannot be sent to another process.
    """
    script = ModuleType("__main__")
    script.__file__ = "<stdin>"
    monkeypatch.setitem(sys.modules, "__main__", script)
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("evaluation"))
    told: list[str] = []
    how = {"num_workers": 2, "use_gpu": False, "show": lambda line: told.append(line)}
    two = evaluate_run(str(tmp_path / "run"), Request(features="random", num=NUM), **how)
    assert (
        told[0] == "Starting 2 processes ..."
        and told[2] == f"{NUM}/{NUM} samples"
        and sys.modules["__main__"] is script
    )
    assert two["identity"] == record["identity"] and two["measured"]["fd"]["workers"] == 2
    ours, theirs = numbers_in(two["results"]), numbers_in(record["results"])
    assert len(theirs) > 50 and ours == pytest.approx(theirs, rel=1e-9)
    for own, other in zip(two["sheets"], record["sheets"], strict=True):
        assert Path(own).read_bytes() == Path(other).read_bytes()


def test_other_metrics_join_the_file_and_other_weights_have_their_own(run: Path, record: dict[str, Any]):
    again = evaluate_run(str(run), Request(features="random", num=NUM, metrics=("fd",)), use_gpu=False)
    assert sorted(again["results"]) == sorted(ALL) and again["results"]["fd"] == record["results"]["fd"]
    assert again["measured"]["swd"] == record["measured"]["swd"]
    raw = evaluate_run(str(run), Request(features="random", num=NUM, metrics=("fd",), weights="raw"), use_gpu=False)
    assert list(raw["results"]) == ["fd"] and raw["file"] != again["file"]
    assert raw["results"]["fd"]["samples"] != again["results"]["fd"]["samples"]
    other = evaluate_run(str(run), Request(num=NUM, metrics=("swd",), seed=1, checkpoint="2"), use_gpu=False)
    assert other["identity"]["update"] == 2 and other["results"]["swd"]["samples"] != again["results"]["swd"]["samples"]


def test_numbers_of_another_state_are_not_mixed_in(run: Path, tmp_path: Path):
    shutil.copytree(run, tmp_path / "run")
    request = Request(features="random", num=NUM, metrics=("swd",))
    file = Path(evaluate_run(str(tmp_path / "run"), request, use_gpu=False)["file"])
    before = json.loads(file.read_text())
    before["identity"]["weights_sha256"] = "of other weights"
    before["results"]["pr"], before["measured"]["pr"] = before["results"]["swd"], before["measured"]["swd"]
    file.write_text(json.dumps(before))
    assert list(evaluate_run(str(tmp_path / "run"), request, use_gpu=False)["results"]) == ["swd"]
    file.write_text("{ damaged")
    assert list(evaluate_run(str(tmp_path / "run"), request, use_gpu=False)["results"]) == ["swd"]


def test_without_num_it_is_as_many_as_are_held_out(run: Path):
    record = evaluate_run(str(run), Request(metrics=("swd",)), use_gpu=False)
    assert record["identity"]["num"] == 359 and record["identity"]["features"] is None and record["sheets"] == []


def test_images_are_chosen_at_random_each_once_and_always_the_same():
    images = open_images("sklearn:digits", image_size=8, channels=1, split="train")
    one, other = choose(images, 100, key=0), choose(images, 100, key=1)
    assert len(set(one.rows.tolist())) == 100 and sorted(one.rows) == one.rows.tolist()
    assert one.rows.tolist() == choose(images, 100, key=0).rows.tolist() != other.rows.tolist()
    assert torch.equal(one(torch.tensor([3]))[0], torch.from_numpy(images.images[one.rows[3]].copy()))


# As a command


def test_the_command_prints_tables_and_where_things_are(command, run: Path):
    status, out, err = command("evaluate", run, "--features", "random", "--num", NUM, "--cpu", "--steps", "K,3K")
    assert (status, err) == (0, "")
    for words in ("SWD at 8x8", "FD-Random", "KD-Random", "precision", "memorisation ratio", "diversity", "accep"):
        assert words in out
    assert f"{NUM}/{NUM} samples" in out and re.search(r"numbers +\S+seed0\.json", out)
    assert max(len(line) for line in out.splitlines() if line[:1] in {"┃", "│"}) <= 80
    assert "samples are too few to tell much" in out and "raise --num." in out


def test_samples_that_are_not_finite_and_chains_without_noise_are_told(record: dict[str, Any]):
    from rich.console import Console

    cold = json.loads(json.dumps(record))
    cold["measured"]["swd"]["samples_not_finite"] = 3
    for grid in cold["results"]["chains"]["grids"].values():
        grid["noise"] = 0.0
        for at in grid["steps"].values():
            at["acceptance"] = at["energy"] = None
    with redirect_stdout(io.StringIO()) as out:
        for item in tables_of(cold):
            Console(width=100).print(item)
    assert "3 of the samples are not finite" in out.getvalue()


MISTAKES = [
    (["--metrics", "fdi"], "has 'fdi' (did you mean 'fd'?)"),
    (["--steps", "50"], "must be multiples of K"),
    (["--num", "5000"], "--num 5000 is more than the 359 images of sklearn:digits [test]"),
    (["--num", "3"], "At least 20 samples"),
    (["--features", "/nowhere/weights.pth"], "/nowhere/weights.pth"),
    (["--features", "random", "--metrics", "is"], "needs a network with classes, but random has none"),
    (["--checkpoint", "3"], "There is no checkpoint '3'"),
    (["--workers", "0"], "--workers must be at least 1"),
]


@pytest.mark.parametrize(("arguments", "words"), MISTAKES, ids=lambda value: str(value)[:40])
def test_a_mistake_is_one_sentence_and_nothing_is_written(command, run: Path, tmp_path: Path, arguments: list, words):
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("evaluation"))
    status, out, err = command("evaluate", tmp_path / "run", "--cpu", "--features", "random", *arguments)
    assert status == 2 and words in err and err.count("\n") == 1 and out.count("...\n") == out.count("\n") <= 1
    assert not (tmp_path / "run" / "evaluation").exists()


def test_a_process_that_is_killed_is_one_sentence(run: Path):
    with pytest.raises(UserError, match="SIGKILL.*lower --workers"):
        evaluate_run(
            str(run),
            Request(num=NUM),
            num_workers=2,
            use_gpu=False,
            show=lambda _: active_children() and active_children()[0].kill(),
        )


def test_missing_weights_are_one_sentence(command, run: Path, monkeypatch, tmp_path: Path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    status, _, err = command("evaluate", run, "--features", "inception")
    assert status == 2 and "--download" in err and err.count("\n") == 1


def test_runs_that_are_damaged_or_absent_are_one_sentence(command, run: Path, tmp_path: Path):
    status, _, err = command("evaluate", tmp_path / "none")
    assert status == 2 and "There is no run" in err and err.count("\n") == 1
    shutil.copytree(run, tmp_path / "run")
    for file in (tmp_path / "run" / "checkpoints").rglob("ema.safetensors"):
        file.write_bytes(b"damaged")
    status, _, err = command("evaluate", tmp_path / "run", "--features", "random", "--metrics", "swd")
    assert status == 2 and "distmgcd verify" in err and err.strip().splitlines()[-1].startswith("distmgcd: ")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_place_that_cannot_be_written_is_one_sentence(command, run: Path, tmp_path: Path, workers: int):
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("evaluation"))
    (tmp_path / "run" / "evaluation").write_text("in the way")
    status, _, err = command("evaluate", tmp_path / "run", "--metrics", "swd", "--num", NUM, "--workers", workers)
    assert status == 2 and "cannot be written" in err and err.count("\n") == 1


@pytest.mark.parametrize("name", ["evaluate", "inpaint", "features", "ood"])
def test_a_place_that_cannot_be_written_is_found_before_the_work(command, run: Path, tmp_path: Path, name: str):
    """Nothing is loaded yet: that the run has no checkpoints does not matter."""
    (tmp_path / "run").mkdir()
    shutil.copy(run / "config.yaml", tmp_path / "run")
    (tmp_path / "run" / ("inpainting" if name == "inpaint" else "evaluation")).write_text("in the way")
    status, out, err = command(name, tmp_path / "run")
    assert status == 2 and out.count("...\n") == out.count("\n") <= 1  # what it is about to do, and no more
    assert "cannot be written" in err and err.count("\n") == 1


def test_looking_whether_results_can_be_written_leaves_nothing_behind(tmp_path: Path):
    check_writable(Store(str(tmp_path)))
    assert not list(tmp_path.iterdir())
