"""Coarse chains of the next batch beside the finest grid's update: the plain updates, bit for bit, in another order."""

from dataclasses import replace

import pytest
import torch
from small_models import BETAS, method, random_pixels, small_learner, small_model, state_of
from torch import Tensor

from distmgcd.core.ahead import Ahead
from distmgcd.core.execution.executors import PLAIN, FastWalker, Speed
from distmgcd.core.langevin import run_chain
from distmgcd.core.learning import Learner, Method, learn

TRACED = FastWalker(Speed("traced", "fp32", False))
NUM_UPDATES = 4
BATCHES = [random_pixels(6) for _ in range(NUM_UPDATES)]
BATCHES = [(pixels.roll(number, -1), indices + 6 * number) for number, (pixels, indices) in enumerate(BATCHES)]


def alone(gradient: Tensor):
    """The average over one worker."""
    return lambda: None


def ahead_of(norm: str = "none", device: str = "cpu") -> tuple[Ahead, Learner]:
    model = small_model(norm=norm).to(device)
    learner = Learner(model, model, betas=BETAS, start_average=alone, finest_apart=True)
    return Ahead(learner), learner


def read(update: int) -> tuple[Tensor, Tensor]:
    return BATCHES[update]


def plainly(how: Method, norm: str = "none") -> list[Tensor]:
    """What the plain updates leave behind, and their metrics."""
    learner = small_learner(small_model(norm=norm))
    metrics = [learn(learner, *read(update), update, how).metrics for update in range(NUM_UPDATES)]
    return [*state_of(learner), *metrics]


@pytest.mark.parametrize(
    ("norm", "changes"),
    [
        *(("none", {"start": kind}) for kind in ("multigrid", "data", "noise")),
        *((norm, {"walker": walker}) for norm in ("batch", "spectral", "layer") for walker in (PLAIN, TRACED)),
        ("none", {"mask": "square", "flip": True}),
    ],
)
def test_updates_ahead_are_the_plain_ones_bit_for_bit(norm: str, changes: dict):
    how = method(num_updates=NUM_UPDATES, **changes)
    ahead, learner = ahead_of(norm)
    metrics = [ahead.learn(read, update, how).metrics for update in range(NUM_UPDATES)]
    assert all(map(torch.equal, [*state_of(learner), *metrics], plainly(how, norm)))


def test_the_next_coarse_chains_walk_before_the_finest_of_this_update_and_none_after_the_last():
    events = []

    class Telling:
        @staticmethod
        def run_chain(energy, x, noise, langevin, held):
            events.append(f"walk {x.shape[-1]}")
            return run_chain(energy, x, noise, langevin, held)

    def told_read(update: int) -> tuple[Tensor, Tensor]:
        events.append(f"read {update}")
        return read(update)

    ahead, _ = ahead_of()
    for update in range(2):
        ahead.learn(told_read, update, method(num_updates=2, walker=Telling))
    assert events == ["read 0", "walk 4", "read 1", "walk 4", "walk 8", "walk 8"]


@pytest.mark.parametrize("what", ["other weights", "another method", "another update"])
def test_chains_that_walked_by_what_is_no_more_walk_again(what: str):
    how = method(num_updates=NUM_UPDATES)
    ahead, learner = ahead_of()
    ahead.learn(read, 0, how)
    update = 2 if what == "another update" else 1
    if what == "other weights":
        learner.model.load_state_dict(small_model(seed=5).state_dict())
    elif what == "another method":
        how = replace(how, langevin=[settings._replace(step_size=0.1) for settings in how.langevin])
    found = ahead.learn(read, update, how).synthesised
    other = small_learner()
    learn(other, *read(0), 0, method(num_updates=NUM_UPDATES))
    if what == "other weights":
        other.model.load_state_dict(small_model(seed=5).state_dict())
    assert all(map(torch.equal, found, learn(other, *read(update), update, how).synthesised))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA GPU on this machine")
class TestOnGpu:
    @pytest.mark.parametrize("execution", ["traced", "captured"])
    def test_updates_ahead_are_the_plain_ones(self, execution: str):
        how = method(num_updates=NUM_UPDATES, walker=FastWalker(Speed(execution, "fp32", False)))
        batches = [tuple(values.cuda() for values in batch) for batch in BATCHES]
        learner = small_learner(small_model().cuda(), start_average=alone)
        plain = [learn(learner, *batches[update], update, how).metrics for update in range(NUM_UPDATES)]
        for _ in range(20):  # a race need not show at once
            ahead, other = ahead_of(device="cuda")
            metrics = [ahead.learn(batches.__getitem__, update, how).metrics for update in range(NUM_UPDATES)]
            for found, expected in zip([*state_of(other), *metrics], [*state_of(learner), *plain], strict=True):
                torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)

    def test_no_host_waits_for_the_gpu(self):
        how = method(num_updates=NUM_UPDATES, walker=FastWalker(Speed("captured", "fp32", False)))
        batches = [tuple(values.cuda() for values in batch) for batch in BATCHES]
        ahead, _ = ahead_of(device="cuda")
        for update in range(2):
            ahead.learn(batches.__getitem__, update, how)
        torch.cuda.set_sync_debug_mode("error")
        try:
            ahead.learn(batches.__getitem__, 2, how)
        finally:
            torch.cuda.set_sync_debug_mode("default")
