"""The bench: what it counts is right, and every figure is there."""

import json

from tiny_runs import tiny_config

from distmgcd.bench import multiply_adds
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
