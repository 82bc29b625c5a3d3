"""What is counted as the cost of a run, against what torch counts as it is done."""

import pytest
import torch
from tiny_runs import tiny_config
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from distmgcd.config import load_config
from distmgcd.config.cost import (
    cost_line,
    gradient_evaluation_cost,
    in_words,
    multiply_adds,
    run_cost,
    sample_cost,
    update_cost,
)
from distmgcd.core.learning import learn
from distmgcd.core.synthesis import StartDistribution, draw_samples
from distmgcd.models.assemble import make_langevin, make_learner, make_method
from distmgcd.workers.collectives import LocalWorker


class Counted(TorchDispatchMode):
    """Inside, multiply-adds are counted, two flops each. (FlopCounterMode cannot count in torch.autograd.grad.)"""

    total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if (packet := func._overloadpacket) in flop_registry:
            self.total += flop_registry[packet](*args, **(kwargs or {}), out_val=out) // 2
        return out


def test_the_cost_of_the_tiny_config_by_hand():
    config = tiny_config("langevin.num_steps=[3,2]", "network.strides=1")
    coarse, fine = 2 * 2 * (9 * 4 + 4), 8 * 8 * (9 * 4 + 4)  # 3x3 to 4 channels at every pixel, then to one number
    assert [multiply_adds(config, grid) for grid in (0, 1)] == [coarse, fine]
    assert gradient_evaluation_cost(config) == 2 * fine
    assert sample_cost(config) == 2 * 3 * coarse + 2 * 2 * fine
    assert update_cost(config) == 8 * ((2 * 3 + 6) * coarse + (2 * 2 + 6) * fine)


def test_the_cost_of_a_run_in_words():
    config = tiny_config("langevin.num_steps=[3,2]", "network.strides=1")
    evaluations = 2 * 3 * 8 * sample_cost(config)  # of fresh samples and of the untrained model
    assert run_cost(config) == 6 * update_cost(config) + evaluations
    share = 100 * evaluations / run_cost(config)
    assert cost_line(config, num_images=12) == (
        "Cost: 6 updates of 8 images see 48 images (4 epochs of 12 images) and take 1.9e6 multiply-adds (2.2e5 per "
        f"update; {share:.0f} % of all for evaluations)."
    )
    assert [in_words(value) for value in (5, 99_900, 12e15)] == ["5.0e0", "1.0e5", "1.2e16"]


@pytest.mark.parametrize("network", [[], ["network.kind=residual", "network.kernels=3", "network.head=sum"]])
def test_samples_and_updates_cost_what_torch_counts(network: list[str]):
    """But for the first layer, of which learning needs no gradient of the image."""
    changes = ["langevin.num_steps=5", "network.strides=1", "learning.global_batch_size=4", "speed.execution=plain"]
    config = load_config("digits", [*changes, *network])  # plain: no tiny convolution as a larger matrix product
    learner = make_learner(config, LocalWorker(torch.device("cpu")))
    starts = StartDistribution(torch.tensor([[9]], dtype=torch.uint8), torch.ones(1))
    how = {"seed": 0, "sizes": config.grids.sizes, "langevin": make_langevin(config)}
    with Counted() as counted:
        draw_samples(learner.model, starts, torch.arange(4), **how)
    assert counted.total == pytest.approx(4 * sample_cost(config), rel=0.01)
    pixels = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)
    with Counted() as counted:
        learn(learner, pixels, torch.arange(4), 0, make_method(config))
    assert counted.total == pytest.approx(update_cost(config), rel=0.02)
