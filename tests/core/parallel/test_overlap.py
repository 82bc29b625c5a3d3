"""Gradients averaged beside the chains: the plain update, bit for bit, in another order."""

import pytest
import torch
from small_models import method, random_pixels, small_learner, small_model, state_of
from torch import Tensor

from distmgcd.core.execution.executors import PLAIN, ChainExecutor, Speed, TracedExecutor
from distmgcd.core.langevin import run_chain
from distmgcd.core.learning import METRICS, Learner, learn
from distmgcd.core.parallel import overlap
from distmgcd.core.parallel.overlap import messages
from distmgcd.core.synthesis import PreviousEnds, StartKind

PIXELS, INDICES = random_pixels(6)
KINDS = ("multigrid", "data", "persistent", "single", "noise")
TRACED = TracedExecutor(Speed("traced", "fp32", False))


@pytest.fixture(autouse=True)
def _every_grid_for_itself(monkeypatch: pytest.MonkeyPatch):
    """These models are so small that all grids would go in one message."""
    monkeypatch.setattr(overlap, "LEAST_BYTES", 0)


def alone(gradient: Tensor):
    """The average over one worker."""
    return lambda: None


def state_after(learner: Learner, kind: StartKind, executor: ChainExecutor) -> list[Tensor]:
    """Everything that three updates leave behind."""
    metrics, previous = [], None
    for update in range(3):
        how = method(start=kind, executor=executor, flip=True)
        learned = learn(learner, PIXELS, INDICES, update, how, weight=0.75, previous=previous)
        metrics.append(learned.metrics)
        if kind == "persistent":
            previous = PreviousEnds(learned.synthesised, torch.arange(6) % 3 > 0)
    gradients = [p.grad for p in learner.model.parameters()]
    return [*gradients, *state_of(learner), *metrics]


@pytest.mark.parametrize(
    ("norm", "kind", "executor"),
    [
        *(("none", kind, PLAIN) for kind in KINDS),
        *((norm, "multigrid", executor) for norm in ("batch", "spectral", "layer") for executor in (PLAIN, TRACED)),
    ],
)
def test_updates_with_averages_beside_the_chains_are_the_plain_ones_bit_for_bit(norm: str, kind: StartKind, executor):
    plain = state_after(small_learner(small_model(norm=norm)), kind, executor)
    for learner in (small_learner(small_model(norm=norm), start_average=alone), in_one_message(small_model(norm=norm))):
        found = state_after(learner, kind, executor)
        assert len(plain) == len(found) and all(map(torch.equal, found, plain))


def in_one_message(model) -> Learner:
    learner = small_learner(model, start_average=alone)
    learner.parts = [overlap.Part(model.grids)]
    return learner


def test_gradients_go_in_messages_of_a_least_size_and_the_rest_in_a_last_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(overlap, "LEAST_BYTES", 1000)
    assert list(messages([20, 154, 302, 375])) == [(0, 4)]
    assert list(messages([311, 1500, 1500, 1549])) == [(0, 2), (2, 3), (3, 4)]
    assert list(messages([1657, 6504, 300, 200])) == [(0, 1), (1, 2), (2, 4)]
    monkeypatch.setattr(overlap, "LEAST_BYTES", 0)
    assert list(messages([1, 2, 3])) == [(0, 1), (1, 2), (2, 3)]


def test_a_gradient_is_on_its_way_before_the_finer_chain_runs_and_only_the_step_waits():
    events = []

    class Telling:
        @staticmethod
        def run_chain(energy, x, noise, langevin, fixed):
            events.append(f"run {x.shape[-1]}")
            return run_chain(energy, x, noise, langevin, fixed)

    def start_average(gradient: Tensor):
        events.append(f"start {sizes[len(gradient)]}")
        return lambda: events.append(f"wait {sizes[len(gradient)]}")

    learner = small_learner(start_average=start_average)
    sizes = {sum(p.numel() for p in learner.model.grids[grid].parameters()): size for grid, size in ((0, 4), (1, 8))}
    for optimizer in learner.optimizers:
        optimizer.register_step_pre_hook(lambda *_: events.append("step"))
    learn(learner, PIXELS, INDICES, 0, method(executor=Telling))
    assert events == ["run 4", "start 4", "run 8", "start 8", "wait 4", "wait 8", "step", "step"]


def test_small_gradients_leave_with_the_last_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()
    sizes = []
    learner = small_learner(start_average=lambda gradient: sizes.append(len(gradient)) or (lambda: None))
    learn(learner, PIXELS, INDICES, 0, method())
    assert sizes == [sum(p.numel() for p in learner.model.parameters())]


def test_the_step_takes_what_the_average_made_of_the_gradient():
    def halved(gradient: Tensor):
        return lambda: gradient.mul_(0.5)

    plain, averaged = small_learner(), small_learner(start_average=halved)
    for learner in (plain, averaged):
        learn(learner, PIXELS, INDICES, 0, method())
    for ours, theirs in zip(averaged.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad / 2)


def test_a_gradient_that_the_average_made_infinite_is_skipped_in_its_grid_alone():
    sizes = []

    def spoil_the_first(gradient: Tensor):
        sizes.append(len(gradient))
        return lambda: gradient[3].fill_(torch.inf) if len(gradient) == sizes[0] else None

    learner, before = small_learner(start_average=spoil_the_first), small_model()
    metrics = learn(learner, PIXELS, INDICES, 0, method()).metrics
    assert metrics[:, METRICS.index("skipped")].tolist() == [1, 0]
    for grid, same in ((0, True), (1, False)):
        ours, theirs = learner.model.grids[grid].parameters(), before.grids[grid].parameters()
        assert all(map(torch.equal, ours, theirs)) == same


def test_weights_take_no_gradient_in_the_chain():
    learner, seen = small_learner(start_average=alone), []
    learner.model.grids[1].register_forward_pre_hook(lambda grid, _: seen.append(grid.network[0].weight.requires_grad))
    how = method()
    learn(learner, PIXELS, INDICES, 0, how)
    assert seen == [False] * how.langevin[1].num_steps + [True, True]
