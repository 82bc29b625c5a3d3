"""The bench: what it counts is right, and every figure is there."""

import json
from pathlib import Path

import pytest
import torch
from tiny_runs import debug, state_of, tiny_config

from distmgcd.bench import scaling
from distmgcd.bench.scaling import under_torchrun
from distmgcd.bench.speed import multiply_adds
from distmgcd.config import load_config, to_yaml


def test_multiply_adds_are_those_of_the_published_networks():
    config = load_config("paper64")
    counts = [multiply_adds(config, grid) / 1e6 for grid in range(3)]
    assert [round(counts[0], 1), *map(round, counts[1:])] == [1.7, 102, 162]  # method.md's table


def test_bench_prints_and_writes_every_figure(tmp_path, command):
    path = tmp_path / "bench.json"
    tiny = tmp_path / "tiny.yaml"
    tiny.write_text(to_yaml(tiny_config()))
    status, out, _ = command("bench", tiny, "--json", path, "--cpu")
    assert status == 0 and "chain-steps/s" in out and "images/s" in out
    figures = json.loads(path.read_text())
    for chain in figures["chains"].values():
        assert chain["chain_steps_per_s"] > 0 and 0 < chain["fraction_of_peak"] < 1
        assert chain["ratio_to_textbook"] > 0.3
    assert 0 < figures["updates"]["share_of_sampling"] < 1.2
    assert figures["blocks"].keys() == {"4", "2", "1"} and all(0.01 < ratio < 3 for ratio in figures["blocks"].values())
    assert "learning.block_size:" in out and "with 4" in out


def test_torchrun_runs_the_loop_to_the_same_end(tmp_path):
    debug(tmp_path)
    under_torchrun(tiny_config(), str(tmp_path), "ranks", num_workers=2, use_gpu=False)
    ours, theirs = state_of(tmp_path, "ranks"), state_of(tmp_path)
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-5)


def test_scaling_says_what_each_way_reached(tmp_path, command, monkeypatch):
    rates = {"one": [100.0, 110.0], "two": [190.0, 220.0], "ray": [188.0, 209.0]}
    monkeypatch.setattr(
        scaling, "under_torchrun", pretend(lambda num_workers: rates["one" if num_workers == 1 else "two"])
    )
    monkeypatch.setattr(scaling, "under_ray", pretend(lambda num_workers: rates["ray"]))
    figures = scaling.bench_scaling(tiny_config(), num_workers=2, num_rounds=2)
    assert figures["images_per_s"] == {"one": [100, 110], "torchrun": [190, 220], "ray": [188, 209]}
    assert (figures["speed_up"], figures["speed_up_on_ray"]) == pytest.approx((1.95, 1.89))
    assert figures["ray_to_torchrun"] == pytest.approx((188 / 190 + 209 / 220) / 2)


def pretend(rates_of):
    """A way of running that writes a log whose records after the first are of the next of these rates."""

    def run(config, folder, name, *, num_workers, use_gpu):
        log = Path(folder) / name / "log"
        log.mkdir(parents=True)
        rate = rates_of(num_workers)[int(name[-1])]
        records = [{"update": 5 * n, "images_per_s": rate if n > 1 else 1.0} for n in range(1, 5)]
        (log / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))

    return run
