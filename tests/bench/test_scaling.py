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
    monkeypatch.setattr(scaling, "under_ray", pretend(lambda _: [270.0, 418.0]))
    figures = scaling.bench_scaling(tiny_config(), worker_counts=[4, 2], num_rounds=2)
    under = {"1": [100, 110], "2": [190, 220], "4": [300, 440]}
    assert figures["images_per_s"] == {"torchrun": under, "ray": {"4": [270, 418]}}
    assert figures["speed_up"]["torchrun"] == pytest.approx({"1": 1.0, "2": 1.95, "4": 3.5})
    assert figures["speed_up"]["ray"] == pytest.approx({"4": 3.25})
    assert figures["ray_to_torchrun"] == pytest.approx((270 / 300 + 418 / 440) / 2)
    assert any("0.925 of torchrun's rate" in item for item in tables.of_scaling(figures) if isinstance(item, str))


def pretend(rates_of):
    """A way of running that writes a log whose records after the first are of the next of these rates."""

    def run(config, folder, name, *, num_workers, use_gpu):
        log = Path(folder) / name / "log"
        log.mkdir(parents=True)
        rate = rates_of(num_workers)[int(name[-1])]
        records = [{"update": 5 * n, "images_per_s": rate if n > 1 else 1.0} for n in range(1, 5)]
        (log / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))

    return run
