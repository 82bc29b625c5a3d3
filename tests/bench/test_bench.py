"""The bench: what it counts is right, every figure is there, and a mistake is one sentence."""

import json
import os
import subprocess
import sys

import pytest
import torch
from tiny_runs import tiny_config

from distmgcd.bench import chains, machine, timing
from distmgcd.bench.memory import most_resident
from distmgcd.bench.updates import training_pixels
from distmgcd.config import load_config
from distmgcd.config.cost import multiply_adds
from distmgcd.core.execution.executors import Speed
from distmgcd.core.langevin import Langevin
from distmgcd.models.assemble import make_model

CPU = torch.device("cpu")


def test_multiply_adds_are_those_of_the_published_networks():
    config = load_config("paper64")
    counts = [multiply_adds(config, grid) / 1e6 for grid in range(3)]
    assert [round(counts[0], 1), *map(round, counts[1:])] == [1.7, 102, 162]


def test_bench_prints_and_writes_every_figure(tmp_path, tiny, command, monkeypatch):
    monkeypatch.setattr(chains, "EXECUTIONS", {"plain": Speed("plain"), "another": Speed("plain"), "auto": Speed()})
    status, out, _ = command("bench", tiny, "--json", tmp_path / "bench.json", "--cpu")
    assert status == 0 and "chain-steps/s" in out and "images/s" in out and "another" in out
    figures = json.loads((tmp_path / "bench.json").read_text())
    assert figures["machine"]["versions"]["torch"] == torch.__version__ and figures["protocol"]["order"]
    for grid in figures["chains"].values():
        assert grid["contenders"].keys() == {"plain", "another", "auto", "textbook, frozen", "textbook, live"}
        for row in grid["contenders"].values():
            rate = row["chain_steps_per_s"]
            assert 0 < rate["slowest"] <= rate["median"] <= rate["fastest"] and row["first_call_s"] > 0
            assert 0 < row["fraction_of_peak"]["fp32"] < 1
        assert grid["contenders"]["textbook, frozen"]["of_textbook"] == 1
    assert figures["updates"]["images_per_s"]["median"] > 0 and figures["updates"]["of_textbook"] > 0.1
    assert figures["blocks"].keys() == {"4", "2", "1"} and all(0.01 < ratio < 3 for ratio in figures["blocks"].values())
    assert "learning.block_size:" in out and "with 4" in out
    assert 0 < figures["memory"]["imports_bytes"] <= figures["memory"]["peak_resident_bytes"]


def test_in_a_round_everybody_runs_and_the_next_one_begins_with_the_next(monkeypatch):
    calls = []
    tasks = {name: lambda name=name: calls.append(name) for name in "abc"}
    monkeypatch.setattr(timing, "SECONDS_EACH", 0.0)  # once each
    times = timing.in_turn(tasks, CPU)
    assert {name: len(each) for name, each in times.items()} == {"a": 3, "b": 3, "c": 3}
    assert "".join(calls) == "abc" + "abc" + "abc" + "bca" + "cab"  # to warm up, to see how long, three rounds


def test_ratios_are_taken_inside_a_round():
    assert timing.times_as_fast([1.0, 10.0, 2.0], [2.0, 20.0, 5.0]) == 2.0
    assert timing.rates(6.0, [1.0, 3.0, 2.0]) == {"median": 3.0, "slowest": 2.0, "fastest": 6.0}


def test_without_images_pixels_are_made_up_and_that_is_said(tmp_path):
    images, note = training_pixels(tiny_config(f"data.path={tmp_path / 'none.parquet'}"))
    assert images.shape == (8, 1, 8, 8) and images.std() > 50
    assert note.startswith("Pixels are random numbers") and "none.parquet" in note
    assert training_pixels(tiny_config())[1] is None


def test_peak_memory_is_that_of_the_process_and_not_of_its_parent():
    """getrusage of a child begins with its parent's."""
    ballast = torch.ones(2**28)  # 1 GiB
    code = "from distmgcd.bench.memory import most_resident; print(most_resident())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert int(done.stdout) < ballast.nbytes <= most_resident()


def test_a_slow_product_of_matrices_is_not_made_larger(monkeypatch):
    sizes = []
    monkeypatch.setattr(machine, "_MATRIX_SIZES", (512, 1024))
    monkeypatch.setattr(machine, "seconds", lambda task, device: sizes.append(len(task())) or 1.0)
    assert machine.matrix_product_rate(CPU, "fp32") == (2.0 * 512**3, 512)
    assert set(sizes) == {512}


@pytest.mark.parametrize(
    "options, sentence",
    [
        (["--peers", "--profile"], "--peers and --profile are two benches; run one after the other."),
        (["--profile", "--workers", "2"], "--workers is not for --profile"),
        (["--scaling", "--workers", "2:4"], "--workers must be numbers from 1 up such as 4 or 1,2,4, but is '2:4'"),
        (["--scaling", "--workers", "0"], "--workers must be numbers from 1 up"),
        (["--scaling", "--workers", "3"], "must divide learning.global_batch_size, but 3 does not divide 8"),
    ],
)
def test_mistakes_are_one_sentence(options, sentence, tiny, command):
    status, out, error = command("bench", tiny, *options, "--cpu")
    assert status == 2 and sentence in error and error.count("\n") == 1 and not out


def test_where_torch_takes_tf32_the_textbook_runs_in_fp32_too(monkeypatch):
    """As on CUDA, whose eager convolutions are in TF32: what is compared says in which precision it is."""
    monkeypatch.setattr(chains, "eager_precision", lambda device: "tf32")
    seen, settings = [], Langevin(num_steps=1, step_size=1.0, temperature=0.0, clamp="none")
    monkeypatch.setattr(chains, "textbook_chain", lambda *_: seen.append(torch.backends.cudnn.conv.fp32_precision))
    before = torch.backends.cudnn.conv.fp32_precision
    energy = make_model(tiny_config()).grids[0]
    contenders = chains.contenders_of(energy, torch.zeros(1, 1, 2, 2), 0, settings)
    precisions = {name: contender.precision for name, contender in contenders.items()}
    in_tf32 = {name for name, precision in precisions.items() if precision == "tf32"}
    assert in_tf32 == {"textbook, frozen", "textbook, live"}
    assert precisions["plain"] == precisions["textbook, fp32"] == "fp32"
    for name in ("textbook, fp32", "textbook, frozen"):
        contenders[name].task()
    assert seen == ["ieee", before] and torch.backends.cudnn.conv.fp32_precision == before


def test_the_fraction_of_peak_is_taken_inside_a_round(monkeypatch):
    """A chain of 2 images and 3 steps of 5 FLOP, beside a product of 60 FLOP that slows down with it."""
    rounds = {"textbook, frozen": [2.0, 20.0, 3.0], "plain": [1.0, 10.0, 1.5], "fp32": [4.0, 40.0, 9.0]}
    monkeypatch.setattr(timing, "in_turn", lambda tasks, device: {name: rounds[name] for name in tasks})
    contenders = {name: timing.Contender("ours", lambda: None) for name in ("textbook, frozen", "plain")}
    settings = Langevin(num_steps=3, step_size=1.0, temperature=0.0, clamp="none")
    products = {"fp32": chains.Product(lambda: None, flop=60.0)}
    rows = chains.compare(contenders, products, CPU, batch=2, settings=settings, flop=5.0)["contenders"]
    assert rows["plain"]["fraction_of_peak"]["fp32"] == pytest.approx((30 / 1.0) / (60 / 4.0))
    assert rows["textbook, frozen"]["fraction_of_peak"]["fp32"] == pytest.approx((30 / 2.0) / (60 / 4.0))
    assert rows["plain"]["of_textbook"] == 2.0 and rows["plain"]["chain_steps_per_s"]["median"] == 6 / 1.5


def test_a_product_is_timed_in_every_precision_that_is_used_and_in_the_fastest():
    described = {"matrix_product_flop_per_s": {"fp32": 1.0, "bf16": 2.0}, "matrix_product_size": {"fp32": 4, "bf16": 8}}
    products = chains.products_beside({"plain": timing.Contender("ours", lambda: None)}, CPU, described)
    assert {name: product.flop for name, product in products.items()} == {"fp32": 2 * 4**3, "bf16": 2 * 8**3}
    assert products["bf16"].task().dtype == torch.bfloat16
