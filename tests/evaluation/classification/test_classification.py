"""`distmgcd features` and `ood` on tiny runs: the file, going on, labels that follow their images, users' mistakes."""

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tiny_runs import debug

from distmgcd.core.grids import pool
from distmgcd.data.importer import write_parquet
from distmgcd.evaluation.classification.classify_run import Protocol, classify_run
from distmgcd.evaluation.ood import aurocs, energies, tell_apart
from distmgcd.models.sampling import as_floats
from distmgcd.models.trained_model import load

QUICK = Protocol(labels=(60, 90), num_subsets=2, cells=2, num_random=1)


@pytest.fixture(scope="module", autouse=True)
def _quick_head():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distmgcd.evaluation.classification.classifiers.NUM_UPDATES", 10)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs on the digits, one with a grid less."""
    folder = tmp_path_factory.mktemp("runs")
    debug(folder, "learning.num_updates=2")
    debug(folder, "learning.num_updates=2", "grids.sizes=[8]", "start.kind=single", name="single")
    return folder


@pytest.fixture(scope="module")
def record(folder: Path) -> dict:
    return classify_run(str(folder / "run"), QUICK, against=[str(folder / "single")], use_gpu=False)


def test_every_method_is_scored_on_all_held_out_images_with_all_subsets(folder: Path, record: dict):
    written = json.loads(Path(record["file"]).read_text())
    assert written == {key: record[key] for key in ("identity", "methods")}
    assert Path(record["file"]).parent == folder / "run" / "evaluation"
    assert list(written["methods"]) == ["run", "single", "raw pixels", "random networks, seed 1"]
    assert written["identity"]["num_scored"] == 359 and written["identity"]["classes"] == 10
    for method in written["methods"].values():
        for classifier in ("svm", "convnet"):
            for size in ("60", "90"):
                found = method["errors"][classifier][size]
                assert len(found["errors"]) == 2 and found["mean"] == pytest.approx(np.mean(found["errors"]))
                assert found["deviation"] == pytest.approx(abs(np.subtract(*found["errors"])) / 2**0.5)
                assert all(round(359 * error, 6) == int(round(359 * error)) for error in found["errors"])
    of_run = written["methods"]["run"]
    assert of_run["maps"] == [[4, 1, 1], [4, 2, 2]] and len(of_run["about"]["weights_sha256"]) == 64
    assert written["methods"]["raw pixels"]["errors"]["svm"]["90"]["mean"] < 0.25  # 90 % are wrong by chance


def test_the_same_command_measures_nothing_again_and_what_is_missing_joins(folder: Path, record: dict, monkeypatch):
    def fail(*_):
        raise AssertionError("measured again")

    with monkeypatch.context() as patch:
        patch.setattr("distmgcd.evaluation.classification.classify_run.fit_svm", fail)
        patch.setattr("distmgcd.evaluation.classification.classify_run.fit_head", fail)
        assert classify_run(str(folder / "run"), QUICK, use_gpu=False) == record
    more = Protocol(labels=(30,), num_subsets=2, cells=2, num_random=0, classifiers=("svm",))
    joined = classify_run(str(folder / "run"), more, use_gpu=False)
    assert sorted(joined["methods"]["run"]["errors"]["svm"]) == ["30", "60", "90"]
    assert joined["methods"]["run"]["errors"]["svm"]["60"] == record["methods"]["run"]["errors"]["svm"]["60"]


def test_a_stopped_command_keeps_what_it_has_measured(folder: Path, tmp_path: Path, monkeypatch):
    shutil.copytree(folder / "run", tmp_path / "run", ignore=shutil.ignore_patterns("evaluation"))

    def stop(text: str) -> None:
        if "svm, 90" in text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        classify_run(str(tmp_path / "run"), QUICK, use_gpu=False, show=stop)
    (file,) = (tmp_path / "run" / "evaluation").iterdir()
    assert list(json.loads(file.read_text())["methods"]["run"]["errors"]["svm"]) == ["60"]


def test_other_weights_of_the_same_name_are_measured_anew(folder: Path, tmp_path: Path, record: dict):
    shutil.copytree(folder / "run", tmp_path / "run")
    file = tmp_path / "run" / "evaluation" / Path(record["file"]).name
    before = json.loads(file.read_text())
    before["methods"]["run"]["about"]["weights_sha256"] = "of other weights"
    before["methods"]["run"]["errors"]["svm"]["60"]["mean"] = 7.0
    file.write_text(json.dumps(before))
    again = classify_run(str(tmp_path / "run"), replace(QUICK, num_random=0), use_gpu=False)
    assert again["methods"]["run"]["errors"]["svm"]["60"]["mean"] < 1.0


def test_labels_follow_their_images_past_damaged_ones(tmp_path: Path):
    """Each image is as bright as its label says. Were labels one row off, half of the errors would be 1 / 2."""
    generator = np.random.default_rng(0)
    labels = generator.integers(2, size=240)
    rows = [png((generator.integers(60, size=(8, 8)) + 150 * label).astype(np.uint8)) for label in labels]
    for damaged in (0, 7, 100, 139, 210):
        rows[damaged] = b"no image"
    table = {"image": pa.array(rows), "label": labels, "split": ["train", "train", "test"] * 80}
    pq.write_table(pa.table(table), tmp_path / "images.parquet", row_group_size=50)
    debug(tmp_path, f"data.path={tmp_path}/images.parquet", "data.max_corrupt=0.1", "learning.num_updates=2")
    quick = Protocol(labels=(40,), num_subsets=2, num_random=0)
    errors = classify_run(str(tmp_path / "run"), quick, use_gpu=False)["methods"]["raw pixels"]["errors"]
    assert errors["svm"]["40"]["errors"] == [0.0, 0.0]


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


# As a command


def test_the_command_prints_tables_and_where_the_numbers_are(command, folder: Path, record: dict):
    quick = ("--labels", "60,90", "--subsets", 2, "--cells", 2, "--random", 1, "--cpu")
    status, out, err = command("features", folder / "run", *quick)
    assert (status, err) == (0, "") and "L2-SVM" in out and "small ConvNet" in out and record["file"] in out
    mean = record["methods"]["single"]["errors"]["svm"]["90"]["mean"]
    assert f"{100 * mean:.2f} ±" in out and "359 images of sklearn:digits [test]" in " ".join(out.split())


MISTAKES = [
    ([], "--labels 2000 asks for 200 images of each of 10 classes, but sklearn:digits [train] has"),
    (["--labels", "1000,x"], "--labels must be whole numbers with commas between them, but has 'x'"),
    (["--labels", "60", "--classifiers", "smv"], "has 'smv' (did you mean 'svm'?)"),
    (["--labels", "60", "--against", "/nowhere"], "There is no run at /nowhere"),
    (["--labels", "60", "--checkpoint", "7"], "There is no checkpoint '7'"),
]


@pytest.mark.parametrize(("arguments", "words"), MISTAKES, ids=lambda value: str(value)[:40])
def test_a_mistake_is_one_sentence(command, folder: Path, arguments: list, words: str):
    status, out, err = command("features", folder / "run", "--cpu", *arguments)
    assert status == 2 and words in err and err.count("\n") == 1 and out.count("...\n") == out.count("\n") <= 1


def test_a_run_on_other_images_is_refused(command, folder: Path, tmp_path: Path):
    debug(tmp_path, "learning.num_updates=2", "data.validation=0.2", name="other")
    status, _, err = command("features", folder / "run", "--labels", "60", "--against", tmp_path / "other", "--cpu")
    assert status == 2 and "compare runs on the same images and splits" in err and err.count("\n") == 1


def test_a_run_whose_splits_overlap_is_refused(command, tmp_path: Path):
    debug(tmp_path, "learning.num_updates=2", "data.split=all")
    status, _, err = command("features", tmp_path / "run", "--labels", "60", "--cpu")
    assert status == 2 and "359 images are both in sklearn:digits [all] and in sklearn:digits [test]" in err
    assert err.count("\n") == 1


# Energies of other images


def test_auroc_of_known_scores():
    low, high = np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0])
    assert aurocs({"8": low}, {"8": high}) == {"8": pytest.approx((3 * 2 - 1 - 0.5) / 6)}
    assert aurocs({"8": low}, {"8": low + 5}) == {"8": 1.0} and aurocs({"8": low}, {"8": low - 5}) == {"8": 0.0}
    assert aurocs({"8": low}, {"8": low}) == {"8": 0.5}


def test_energies_are_those_of_the_box_averages_and_their_sum(folder: Path):
    trained = load(str(folder / "run"), device="cpu")
    images = np.random.default_rng(0).integers(256, size=(5, 1, 8, 8), dtype=np.uint8)
    found, whole = energies(trained, images), as_floats(images)
    for name, level, energy in (("2", pool(whole, 2), trained.model.grids[0]), ("8", whole, trained.model.grids[1])):
        np.testing.assert_allclose(found[name], energy(level).detach(), rtol=1e-5)
    np.testing.assert_allclose(found["sum"], found["2"] + found["8"])


def test_images_are_told_apart_at_every_grid_and_by_the_sum(folder: Path):
    record = tell_apart(str(folder / "run"), ["sklearn:digits"], num=200, use_gpu=False)
    against = record["against"]
    assert list(against) == ["sklearn:digits [test]", "training images, train", "uniform noise", "constant images"]
    of_the_same_images = dict.fromkeys(("2", "8", "sum"), pytest.approx(0.5, abs=1e-9))
    assert against["sklearn:digits [test]"]["auroc"] == of_the_same_images
    assert abs(against["training images, train"]["auroc"]["8"] - 0.5) < 0.15
    assert json.loads(Path(record["file"]).read_text())["against"] == against


def test_the_ood_command_prints_its_table_and_refuses_other_channels(command, folder: Path, tmp_path: Path):
    status, out, err = command("ood", folder / "run", "--num", 50, "--cpu")
    out = " ".join(out.split())
    assert (status, err) == (0, "") and "of sklearn:digits [test]" in out
    assert all(words in out for words in ("uniform noise", "1810.09136", "8x8"))
    write_parquet(np.zeros((4, 3, 8, 8), np.uint8), tmp_path / "colour.parquet")
    for arguments, words in (
        ([tmp_path / "colour.parquet", "--split", "train"], "data.channels=1 asks for grey images"),
        ([tmp_path / "colour.parquet"], "--split='test' is not in"),
        (["--num", 1], "--num must be at least 2"),
    ):
        status, out, err = command("ood", folder / "run", "--cpu", *arguments)
        assert status == 2 and words in err and err.count("\n") == 1 and out.count("...\n") == out.count("\n") <= 1
