"""Distances of fixed sets of images are those that were measured before the code was last rewritten."""

import pytest
import torch
from tiny_runs import tiny_config

from distmgcd.evaluation.distances.draws import draws_of_data
from distmgcd.evaluation.distances.measure import sample_distances
from distmgcd.models.assemble import open_held_out_images, open_training_images
from distmgcd.workers.collectives import LocalWorker

CONFIG = ("evaluate.features=random", "evaluate.num_samples=100", "evaluate.num_draws=2")

# {sets: (mean, deviation) of swd at 2x2, of swd at 8x8, and of FD-Random}, on an x86 CPU
BEFORE = {
    "data": (
        (0.033554248603644796, 0.002959178660347045),
        (0.1049760481768567, 0.008688098139372484),
        (0.28661394074906843, 0.0013552336778245965),
    ),
    "noisy": (
        (0.052493098968578455, 0.0017847855603707007),
        (0.1244083646927018, 0.001616643378471991),
        (0.814024591456409, 0.020946246432162252),
    ),
    "few": (
        (0.05416493912754276, 0.004814681418125409),
        (0.1775588753132676, 0.017638260278926426),
        (0.5072560379706108, 0.07794226638551568),
    ),
}


@pytest.fixture(scope="module")
def sets() -> dict[str, list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    config = tiny_config(*CONFIG)
    data = draws_of_data(open_training_images(config), config)
    noisy = [draw + 0.3 * torch.randn(draw.shape, generator=generator) for draw in data]
    return {"data": data, "noisy": noisy, "few": [draw[:30] for draw in data]}


@pytest.mark.parametrize("name", BEFORE)
def test_the_numbers_are_those_of_before(sets: dict[str, list[torch.Tensor]], name: str):
    """To a few bits: another CPU rounds matrix products in another way."""
    config = tiny_config(*CONFIG)
    found = sample_distances(config, open_held_out_images(config), LocalWorker(torch.device("cpu")))(sets[name])
    values = [(of.mean[key], of.spread[key]) for of in (found["swd"], found["fd"]) for key in of.mean]
    assert list(found["swd"].mean) == ["2", "8"] and list(found["fd"].mean) == ["FD-Random"]
    for value, before in zip(values, BEFORE[name], strict=True):
        assert value == pytest.approx(before, rel=1e-6, abs=1e-9)
