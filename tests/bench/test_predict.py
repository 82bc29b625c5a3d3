"""The prediction: real phases of a tiny model, a real link, a real run beside it."""

import json

import pytest
import torch
from tiny_runs import tiny_config

from distmgcd.bench import predict, tables
from distmgcd.bench.all_reduce import measure_link
from distmgcd.bench.predict import TimedPhases, bench_predict, fit, gradient_bytes
from distmgcd.bench.update_time import Link
from distmgcd.errors import UserError
from distmgcd.models.assemble import make_model

PHASES = ("read", "observe", "chain 2x2", "noise 2x2", "chain 8x8", "noise 8x8", "gradient", "optimiser", "rest")


def test_phases_on_lines_are_predicted_exactly():
    """One worker is what was measured, where the time of every phase is a line in the images."""
    made = {size: {phase: n + 0.1 * n * size for n, phase in enumerate(PHASES, 1)} for size in (1, 4, 16)}
    model = fit(tiny_config(), made)
    for size, phases in made.items():
        assert model.computing(size) == pytest.approx(sum(phases.values()))
    assert model.grids[0].sampling(4) == pytest.approx(made[4]["chain 2x2"] + made[4]["noise 2x2"])
    assert sum(grid.gradient(4) for grid in model.grids) == pytest.approx(made[4]["gradient"])


def test_a_gradient_has_four_bytes_a_weight():
    # One convolution 3x3 of 1 to 4 channels with stride 2 and bias, then a dense layer from 4 x 1 x 1 and 4 x 4 x 4.
    assert gradient_bytes(make_model(tiny_config())) == [4 * (36 + 4 + 4), 4 * (36 + 4 + 64)]


def test_the_command_predicts_and_states_what_it_assumes(tmp_path, tiny, command, monkeypatch):
    monkeypatch.setattr(predict, "_NUM_ROUNDS", 2)
    link = ("--bandwidth", 25, "--latency", 10)
    status, out, _ = command("bench", tiny, "--predict", *link, "--json", tmp_path / "predict.json", "--cpu")
    assert status == 0 and "It assumes that" in out and "workers do not slow each other down" in out
    figures = json.loads((tmp_path / "predict.json").read_text())
    assert figures["link"] == {"bytes_per_s": 25e9, "latency_s": pytest.approx(1e-5), "source": "given"}
    assert [row["num_workers"] for row in figures["fixed_share"]] == [8, 16, 32, 64, 128, 256, 512, 1024]
    assert [row["num_workers"] for row in figures["fixed_batch"]] == [8]  # a batch of 8
    predicted = 8 / figures["one_worker_images_per_s"]
    assert abs(predicted / figures["measured_s"]["8"] - 1) <= figures["fit_largest_error"] + 1e-9
    rates = [row["without_overlap"]["images_per_s"] for row in figures["fixed_share"]]
    assert rates == sorted(rates)


def test_real_runs_stand_beside_the_prediction():
    figures = bench_predict(
        tiny_config("learning.num_updates=4"), use_gpu=False, link=Link(1e9, 1e-5), check_with=[1], num_rounds=1
    )
    (row,) = figures["checked"]
    assert row["num_workers"] == 1 and len(row["measured_images_per_s"]) == 1 and row["measured_images_per_s"][0] > 0
    assert row["without_overlap"]["images_per_s"] == pytest.approx(figures["one_worker_images_per_s"])


@pytest.mark.parametrize("overlap", [True, False])
def test_real_runs_are_compared_with_the_prediction_of_how_they_average(overlap: bool):
    rates = {"with_overlap": {"images_per_s": 200.0}, "without_overlap": {"images_per_s": 100.0}}
    row = {"num_workers": 2, "share": 4, **rates, "measured_images_per_s": [50.0]}
    table = tables._checked({"batch": 8, "overlap": overlap, "checked": [row]})
    assert list(table.columns[-1].cells) == ["4.00" if overlap else "2.00"]
    assert ("images/s, with overlap" if overlap else "images/s, without overlap") in table.caption


def test_a_link_is_measured_between_two_processes():
    link = measure_link(1 << 20, use_gpu=False)
    assert 1e6 < link.bytes_per_s < 1e12 and 1e-7 < link.latency < 1


def test_a_first_round_only_warms_up():
    config = tiny_config()
    timed = TimedPhases(config, predict.training_pixels(config)[0], torch.device("cpu"))
    timed.take(2)
    timed.take(1)
    assert len(timed._rounds) == 3 and timed.medians().keys() == {1, 2, 8}


def test_runs_that_need_images_say_so_before_anything_is_timed(tmp_path):
    with pytest.raises(UserError, match="none.parquet"):
        bench_predict(tiny_config(f"data.path={tmp_path / 'none.parquet'}"), use_gpu=False, check_with=[1])


def test_one_gpu_cannot_measure_a_link(monkeypatch):
    monkeypatch.setattr(predict, "choose_device", lambda use_gpu: torch.device("cuda"))
    monkeypatch.setattr(predict.torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match="give --bandwidth GB/S and --latency"):
        bench_predict(tiny_config())
