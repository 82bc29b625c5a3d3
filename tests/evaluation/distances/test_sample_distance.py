"""What distances are taken of, and against."""

import statistics
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_runs import debug, records_of, tiny_config

from distmgcd.config import Config
from distmgcd.data import ImageSet, batch_indices
from distmgcd.evaluation.distances.draws import draws_of_bank, draws_of_data
from distmgcd.evaluation.distances.measure import Distances, sample_distances
from distmgcd.models.assemble import open_held_out_images, open_training_images
from distmgcd.models.sampling import as_floats
from distmgcd.workers.collectives import LocalWorker


def distances(sets: list[torch.Tensor], held_out: ImageSet, config: Config) -> Distances:
    return sample_distances(config, held_out, LocalWorker(torch.device("cpu")))(sets)["swd"]


def test_distances_are_the_mean_and_deviation_of_single_sets():
    config, generator = tiny_config(), torch.Generator().manual_seed(0)
    held_out = open_held_out_images(config)
    sets = [torch.rand(50, 1, 8, 8, generator=generator) * scale for scale in (0.5, 1.0, 1.5)]
    singles = [distances([images], held_out, config) for images in sets]
    found = distances(sets, held_out, config)
    for size in ("2", "8"):
        values = [single.mean[size] for single in singles]
        assert found.mean[size] == pytest.approx(statistics.mean(values))
        assert found.spread[size] == pytest.approx(statistics.stdev(values))
        assert singles[0].spread[size] == 0


def test_the_held_out_images_themselves_are_at_distance_0():
    config = tiny_config("evaluate.num_samples=100")
    held_out = open_held_out_images(config)
    assert distances([as_floats(held_out.images[:100])], held_out, config).mean == {"2": 0, "8": 0}


def test_draws_of_data_are_different_training_images_each_at_most_once():
    config = tiny_config("evaluate.num_samples=300")
    images = open_training_images(config)
    draws = draws_of_data(images, config)
    assert len(draws) == 3 and all(draw.shape == (300, 1, 8, 8) for draw in draws)
    assert not torch.equal(draws[0], draws[1])
    whole = {image.tobytes() for image in as_floats(images.images).numpy()}
    assert all({image.tobytes() for image in draw.numpy()} <= whole for draw in draws)
    assert len({image.tobytes() for image in draws[0].numpy()}) == 300  # no digit is there twice


def test_validation_takes_images_out_of_training_and_in_place_of_the_held_out(tmp_path):
    plain, config = tiny_config(), tiny_config("data.validation=0.2")
    training, held_out = open_training_images(config), open_held_out_images(config)
    assert np.array_equal(np.sort(np.concatenate([training.rows, held_out.rows])), open_training_images(plain).rows)
    assert not np.isin(held_out.rows, open_held_out_images(plain).rows).any()
    assert "20 % of it" in debug(tmp_path, "data.validation=0.2")["protocol"]["reference"]


def test_every_evaluation_tells_the_spread_over_its_draws(tmp_path):
    result = debug(tmp_path, "evaluate.num_draws=2", "evaluate.every=4")
    assert [set(r["swd_spread"]) for r in records_of(tmp_path) if "swd" in r] == [{"2", "8"}] * 2
    assert all(value > 0 for value in result["swd_spread"]["samples"].values())
    assert "over 2 draws" in result["protocol"]["draws"]


def test_distances_may_be_taken_at_other_sizes_than_the_grids(tmp_path):
    at_grids = debug(tmp_path, name="grids")["swd"]["samples"]
    at_sizes = debug(tmp_path, "evaluate.sizes=[4,8]", "checkpoint.metric=swd/4", name="sizes")["swd"]["samples"]
    assert (at_grids.keys(), at_sizes.keys()) == ({"2", "8"}, {"4", "8"}) and at_sizes["8"] == at_grids["8"]


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_draws_of_the_bank_know_nothing_of_the_order_in_which_its_chains_were_walked(seed: int):
    config = tiny_config("evaluate.num_samples=200", "evaluate.num_draws=3")
    bank = torch.arange(2000.0)[:, None, None, None]
    for epoch in range(3):
        order = [batch_indices(5 * epoch + n, num_images=2000, global_batch_size=400, seed=seed) for n in range(5)]
        first = set(order[0].tolist())  # a fifth of all
        for draw in draws_of_bank(bank, config):
            share = sum(int(row) in first for row in draw.flatten()) / 200
            assert abs(share - 0.2) < 4.5 * 0.027  # of a draw without replacement


def test_what_takes_a_while_is_said_before_it_is_done(tmp_path: Path):
    shown = []
    debug(tmp_path, "evaluate.every=3", show=shown.append)
    kinds = [kind for record in shown for kind in ("doing", "swd") if kind in record]
    assert kinds == ["doing", "swd", "doing", "swd", "doing"]
    first, *_, last = (record["doing"] for record in shown if "doing" in record)
    assert first == "Measuring 8 samples against 8 held-out images, 3 draws ..."
    assert "the untrained model (evaluate.untrained=false leaves that out)" in last
    assert [record for record in records_of(tmp_path) if "doing" in record], "as launchers of workers follow the log"
