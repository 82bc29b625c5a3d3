"""Chains that move hidden pixels only: what they hold, where they start, what they sample, what is learned by them."""

import math
from functools import partial

import pytest
import torch
from small_models import LANGEVIN, METHOD, method, random_pixels, small_learner, small_model
from torch import Tensor

from distmgcd.core.execution import executors
from distmgcd.core.execution.captured import CapturedChain
from distmgcd.core.execution.executors import PLAIN, ChainExecutor, Speed, TracedExecutor
from distmgcd.core.grids import expand, pool, pyramid
from distmgcd.core.inpainting import Known, inpaint
from distmgcd.core.langevin import FixedPixels, Langevin, run_chain
from distmgcd.core.learning import Pairs, learn, sample_pairs
from distmgcd.core.masks import MASK_KINDS, draw_masks
from distmgcd.core.noise import Purpose
from distmgcd.core.parallel.blocks import Blocks, learn_in_blocks
from distmgcd.core.synthesis import ChainNoise, iter_grid_steps, synthesise

SIZES = METHOD.sizes
INDICES = torch.tensor([4, 90, 2, 31, 8])
IMAGES = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1
EXECUTORS = {
    "plain": PLAIN,
    "traced": TracedExecutor(Speed("traced", "fp32", False)),
    "captured": TracedExecutor(Speed("captured", "fp32", False)),
}


@pytest.fixture(autouse=True)
def _as_if_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work that is done again stands for a graph that is replayed."""
    monkeypatch.setattr(Speed, "on", lambda self, device: self)
    monkeypatch.setattr(executors, "CapturedChain", partial(CapturedChain, capture=lambda work: work))


def fill(images: Tensor, hidden: Tensor, executor: ChainExecutor = PLAIN, **changes: object) -> list[Tensor]:
    langevin = [LANGEVIN._replace(**changes)] * 2
    return inpaint(small_model(), images, hidden, INDICES, seed=3, sizes=SIZES, langevin=langevin, executor=executor)


def masks(kind: str = "square") -> Tensor:
    return draw_masks(kind, INDICES, 8, seed=3, purpose=Purpose.INPAINT_MASK)


def everything(hidden: bool) -> Tensor:
    return torch.full((5, 1, 8, 8), hidden)


# What moves


@pytest.mark.parametrize("execution", EXECUTORS)
@pytest.mark.parametrize("clamp", ["none", "end", "step"])
@pytest.mark.parametrize("kind", MASK_KINDS)
def test_known_pixels_stay_bit_for_bit_and_hidden_ones_move(kind: str, clamp: str, execution: str):
    images, hidden = 1.5 * IMAGES, masks(kind)  # beyond what a clamp leaves
    levels = fill(images, hidden, EXECUTORS[execution], clamp=clamp)
    for found, image in zip(levels, pyramid(images, SIZES), strict=True):
        moves = pool(hidden.float(), found.shape[-1]) > 0
        assert torch.equal(found[~moves], image[~moves])
        if moves.any():
            assert (found[moves] - image[moves]).abs().min() > 0 and found.isfinite().all()
    for found, expected in zip(levels, fill(images, hidden, clamp=clamp), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_known_pixels_stay_at_every_step():
    known = Known.of(IMAGES, masks(), pyramid(IMAGES, SIZES))
    how = {"sizes": SIZES, "langevin": METHOD.langevin, "start": known.start(), "fixed": known.fixed}
    for executor in EXECUTORS.values():
        steps = list(
            iter_grid_steps(small_model(), known.start_images, ChainNoise(INDICES, 3), executor=executor, **how)
        )
        assert len(steps) == 10
        for grid, _, x, _ in steps:
            moves = known.fixed[grid].free
            assert torch.equal(x[~moves], pool(IMAGES, SIZES[grid])[~moves])
        ends = synthesise(small_model(), known.start_images, ChainNoise(INDICES, 3), executor=executor, **how).images
        torch.testing.assert_close(ends[1], steps[-1][2], rtol=1e-5, atol=1e-5)


def test_a_captured_chain_holds_the_pixels_of_its_own_images():
    model, how = small_model(), {"sizes": SIZES, "langevin": METHOD.langevin}
    executor = TracedExecutor(Speed("captured", "fp32", False))
    for seed, images in enumerate((IMAGES, -IMAGES)):
        hidden = draw_masks("square", INDICES, 8, seed=seed, purpose=Purpose.MASK)
        found, expected = (
            inpaint(model, images, hidden, INDICES, seed=3, executor=each, **how)[1] for each in (executor, PLAIN)
        )
        assert torch.equal(found.masked_select(~hidden), images.masked_select(~hidden))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert [len(executor._captured[energy]) for energy in model.grids] == [1, 1]


def test_with_nothing_hidden_the_images_come_back():
    assert torch.equal(fill(IMAGES, everything(False))[1], IMAGES)


@pytest.mark.parametrize("execution", EXECUTORS)
def test_with_everything_hidden_it_is_the_ordinary_sampler(execution: str):
    noise = ChainNoise(INDICES, 3, purpose=Purpose.INPAINT_CHAIN)
    how = {"sizes": SIZES, "langevin": METHOD.langevin, "executor": EXECUTORS[execution]}
    expected = synthesise(small_model(), torch.zeros(5, 1, 1, 1), noise, **how).images
    found = fill(IMAGES, everything(True), EXECUTORS[execution])
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("kind", MASK_KINDS)
def test_hidden_pixels_are_not_looked_at(kind: str):
    hidden = masks(kind)
    blind = fill(IMAGES.masked_fill(hidden, math.nan), hidden)
    assert all(map(torch.equal, blind, fill(IMAGES, hidden)))


def test_a_fill_does_not_depend_on_the_rest_of_the_batch():
    found = inpaint(
        small_model(), IMAGES[1:3], masks()[1:3], INDICES[1:3], seed=3, sizes=SIZES, langevin=METHOD.langevin
    )
    torch.testing.assert_close(found[1], fill(IMAGES, masks())[1][1:3], rtol=1e-4, atol=1e-5)


# Where chains start


def test_a_start_is_the_average_of_what_is_known_and_of_what_the_grid_below_says():
    image = torch.arange(16.0).view(1, 1, 4, 4)
    hidden = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    hidden[..., :2, 2:] = True  # a whole box of grid 2: 2, 3, 6, 7
    hidden[..., 3, 0] = True  # a quarter of one: 12
    known = Known.of(image, hidden, [pool(image, 2), image])
    assert known.start_images.item() == pytest.approx((120 - 2 - 3 - 6 - 7 - 12) / 11)
    assert known.fixed[0].free.flatten().tolist() == [False, True, True, False]
    start = known.start()(0, torch.full((1, 1, 2, 2), 100.0))
    assert start.flatten().tolist() == [2.5, 100.0, (8 + 9 + 13 + 100) / 4, 12.5]
    assert torch.equal(known.start()(1, torch.zeros(1, 1, 4, 4)), torch.where(hidden, 0.0, image))


def test_where_nothing_is_known_the_seed_is_grey():
    known = Known.of(IMAGES, everything(True), pyramid(IMAGES, SIZES))
    assert torch.equal(known.start_images, torch.zeros(5, 1, 1, 1))


# What they sample


def test_a_chain_samples_the_conditional_distribution_of_a_gaussian():
    """U = x' P x / 2 with P = [[2, 1], [1, 2]]: given x_1 = v, x_0 has mean -v / 2 and variance 1 / 2."""
    precision, settings, num = torch.tensor([[2.0, 1.0], [1.0, 2.0]]), Langevin(60, 0.4, 1.0, "none"), 20_000

    def energy(x: Tensor) -> Tensor:
        flat = x.flatten(1)
        return 0.5 * (flat @ precision * flat).sum(1)

    x = torch.full((num, 1, 1, 2), 1.6)
    fixed = FixedPixels(x.clone(), torch.tensor([True, False]).expand(num, 1, 1, 2))
    noise = torch.randn(60, num, 1, 1, 2, generator=torch.Generator().manual_seed(0))
    end, _ = run_chain(energy, x, noise, settings, fixed)
    first, given = end.flatten(1).unbind(1)
    variance = 0.5 / (1 - settings.step_size**2 / (4 * 0.5))  # of the unadjusted chain
    assert torch.equal(given, x[..., 1].flatten())
    assert first.mean().item() == pytest.approx(-0.8, abs=4 * math.sqrt(variance / num))
    assert first.var().item() == pytest.approx(variance, rel=4 * math.sqrt(2 / num))


# What is learned by them


def pairs_of(pixels: Tensor, indices: Tensor, update: int = 0, **changes: object) -> Pairs:
    return sample_pairs(small_model(), pixels, indices, update, method(**{"mask": "square", **changes}))


@pytest.mark.parametrize("start", ["multigrid", "data", "noise"])
def test_in_training_the_synthesised_images_differ_from_the_observed_ones_where_masked_and_nowhere_else(start: str):
    pixels, indices = random_pixels(6)
    for update in (0, 1):
        pairs = pairs_of(pixels, indices, update, start=start)
        hidden = draw_masks("square", indices, 8, seed=METHOD.seed, purpose=Purpose.MASK, update=update)
        for observed, synthesised in zip(pairs.observed, pairs.synthesised, strict=True):
            moves = pool(hidden.float(), observed.shape[-1]) > 0
            assert torch.equal(synthesised == observed, ~moves)


def test_a_masked_update_is_the_same_in_blocks():
    pixels, indices = random_pixels(6)
    whole, in_blocks = small_learner(), small_learner()
    blocks = Blocks(2, [(0, 3)], 0, lambda values, counts: values)
    one = learn(whole, pixels, indices, 0, method(mask="pepper"))
    other = learn_in_blocks(in_blocks, pixels, indices, 0, method(mask="pepper"), blocks=blocks)
    torch.testing.assert_close(other.metrics, one.metrics, rtol=1e-4, atol=1e-5)
    for ours, theirs in zip(in_blocks.model.parameters(), whole.model.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-5)
    unmasked = learn(small_learner(), pixels, indices, 0, METHOD).metrics
    assert not torch.isclose(unmasked[:, 1], one.metrics[:, 1], rtol=1e-3).any()  # energies of the synthesised


def test_the_mean_colour_of_known_pixels_is_where_training_chains_start():
    pixels, indices = random_pixels(6)
    no_steps = (LANGEVIN._replace(num_steps=0),) * 2
    pairs = pairs_of(pixels, indices, langevin=no_steps, observed_noise=0.0)
    hidden = draw_masks("square", indices, 8, seed=METHOD.seed, purpose=Purpose.MASK)
    images = pairs.observed[-1]
    mean = (images * ~hidden).sum((2, 3), keepdim=True) / (~hidden).sum((2, 3), keepdim=True)
    whole_box = pool(hidden.float(), 4) == 1
    torch.testing.assert_close(pairs.synthesised[0][whole_box], expand(mean, 4)[whole_box])
