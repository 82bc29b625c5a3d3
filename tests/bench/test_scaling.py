"""Scaling: the same loop under torchrun, and the arithmetic of its figures."""

import json
from pathlib import Path

import pytest
import torch
from tiny_runs import debug, state_of, tiny_config

from distmgcd.bench import scaling, tables
from distmgcd.bench.scaling import under_torchrun


def test_torchrun_runs_the_loop_to_the_same_end(tmp_path):
    debug(tmp_path)
    under_torchrun(tiny_config(), str(tmp_path), "ranks", num_workers=2, use_gpu=False)
    ours, theirs = state_of(tmp_path, "ranks"), state_of(tmp_path)
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-5)


def test_scaling_says_what_each_way_reached(monkeypatch):
    rates = {1: [100.0, 110.0], 2: [190.0, 220.0], 4: [300.0, 440.0]}
    monkeypatch.setattr(scaling, "under_torchrun", pretend(rates.get))
    monkeypatch.setattr(scaling, "without_overlap", pretend(lambda _: [300.0, 400.0]))
    monkeypatch.setattr(scaling, "under_ray", pretend(lambda _: [270.0, 418.0]))
    monkeypatch.setattr(scaling, "apart", pretend(lambda _: [320.0, 400.0]))
    figures = scaling.bench_scaling(tiny_config(), worker_counts=[4, 2], num_rounds=2)
    under = {"1": [100, 110], "2": [190, 220], "4": [300, 440]}
    others = {"apart": {"4": [320, 400]}, "no_overlap": {"4": [300, 400]}, "ray": {"4": [270, 418]}}
    assert figures["images_per_s"] == {"torchrun": under, **others}
    assert figures["speed_up"]["torchrun"] == pytest.approx({"1": 1.0, "2": 1.95, "4": 3.5})
    assert figures["speed_up"]["ray"] == pytest.approx({"4": 3.25})
    assert figures["ray_to_torchrun"] == pytest.approx((270 / 300 + 418 / 440) / 2)
    assert figures["overlap_to_none"] == pytest.approx(1.05)
    assert figures["torchrun_to_apart"] == pytest.approx((300 / 320 + 440 / 400) / 2)
    said = " ".join(item for item in tables.of_scaling(figures) if isinstance(item, str))
    assert "0.925 of torchrun's rate" in said and "beside the chains: 1.050 of the rate without" in said
    assert "wait for each other: 1.019 of the rate of processes" in said


def test_without_overlap_is_a_run_of_that_setting(monkeypatch):
    ran = []
    monkeypatch.setattr(scaling, "under_torchrun", lambda config, *_, **__: ran.append(config.speed))
    scaling.without_overlap(tiny_config("speed.precision=fp32"), "", "", num_workers=2, use_gpu=False)
    assert [(speed.overlap, speed.precision) for speed in ran] == [(False, "fp32")]


def test_processes_apart_have_the_share_of_a_worker_and_count_together(tmp_path, monkeypatch):
    def write(config, folder, name, *, num_workers, use_gpu):
        assert num_workers == 1 and config.learning.global_batch_size == 4
        pretend(lambda _: [100.0, 20.0])(config, folder, name, num_workers=1, use_gpu=use_gpu)

    monkeypatch.setattr(scaling, "under_torchrun", write)
    scaling.apart(tiny_config(), str(tmp_path), "apart", num_workers=2, use_gpu=False)
    assert scaling.rate_of(tmp_path / "apart") == 120.0


@pytest.mark.parametrize(("changes", "counts"), [((), [1]), (("speed.overlap=false",), [2])])
def test_a_run_without_overlap_is_left_out_where_nothing_overlaps(monkeypatch, changes, counts):
    for way in ("under_torchrun", "under_ray", "apart"):
        monkeypatch.setattr(scaling, way, pretend(lambda _: [100.0]))
    monkeypatch.setattr(scaling, "without_overlap", None)
    figures = scaling.bench_scaling(tiny_config(*changes), worker_counts=counts, num_rounds=1)
    assert figures["images_per_s"].keys() - {"apart"} == {"torchrun", "ray"}
    assert not any("beside the chains" in item for item in tables.of_scaling(figures) if isinstance(item, str))


def pretend(rates_of):
    """A way of running that writes a log whose records after the first are of the next of these rates."""

    def run(config, folder, name, *, num_workers, use_gpu):
        log = Path(folder) / name / "log"
        log.mkdir(parents=True)
        rate = rates_of(num_workers)[int(name[-1])]
        records = [{"update": 5 * n, "images_per_s": rate if n > 1 else 1.0} for n in range(1, 5)]
        (log / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))

    return run
