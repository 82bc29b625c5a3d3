"""One update: the gradient of the gap, one optimiser a grid, and what a gradient that is not finite may touch."""

import math
from copy import deepcopy

import pytest
import torch
from small_models import METHOD, method, random_pixels, small_learner, small_model
from torch import Tensor

from distmgcd.core.energy import MultiGridEnergy
from distmgcd.core.grids import expand, pool
from distmgcd.core.learning import METRICS, Learner, add_noise, learn, observe, observed_noise_at, rate_factor, step
from distmgcd.core.noise import Purpose, normals
from distmgcd.core.synthesis import ChainNoise, synthesise

PIXELS, INDICES = random_pixels(6)


def train(learner: Learner, num_updates: int, **changes: object) -> list[Tensor]:
    return [learn(learner, PIXELS, INDICES, update, method(**changes)).metrics for update in range(num_updates)]


def weights(module: torch.nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in module.parameters()]


def adam_state(learner: Learner, grid: int) -> list[Tensor]:
    states = learner.optimizers[grid].state.values()
    return [state[key].clone() for state in states for key in ("exp_avg", "exp_avg_sq", "step")]


def noise(purpose: Purpose, update: int, grid: int, size: int, num_steps: int) -> list[Tensor]:
    return list(
        normals(INDICES, (1, size, size), num_steps, seed=METHOD.seed, purpose=purpose, update=update, grid=grid)
    )


def gradients_by_hand(model: MultiGridEnergy, update: int) -> list[list[Tensor]]:
    """The gradient of every grid's gap, written out from the method's formulas."""
    images = observe(PIXELS, INDICES, update, METHOD)
    x, gradients = pool(images, 1), []
    for grid, (energy, size, chain) in enumerate(zip(model.grids, METHOD.sizes, METHOD.langevin, strict=True)):
        x = expand(x, size)
        for z in noise(Purpose.CHAIN, update, grid, size, chain.num_steps):
            (slope,) = torch.autograd.grad(energy(x.requires_grad_()).sum(), x)
            x = (x - chain.step_size**2 / 2 * slope + chain.step_size * math.sqrt(chain.temperature) * z).detach()
        (z,) = noise(Purpose.OBSERVED, update, grid, size, 1)
        gap = energy(pool(images, size) + METHOD.observed_noise * z).mean() - energy(x).mean()
        gradients.append(list(torch.autograd.grad(gap, list(energy.parameters()))))
    return gradients


@pytest.mark.parametrize("update", [0, 1000])
def test_an_updates_gradient_is_the_hand_written_gradient_of_the_gap(update):
    learner = small_learner()
    expected = gradients_by_hand(learner.model, update)
    learn(learner, PIXELS, INDICES, update, METHOD)
    for energy, gradients in zip(learner.model.grids, expected, strict=True):
        for parameter, gradient in zip(energy.parameters(), gradients, strict=True):
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6)


def test_an_update_is_a_step_of_adam_down_the_gap_at_the_rate_of_its_grid():
    learner = small_learner()
    by_hand = deepcopy(learner.model)
    adams = [torch.optim.Adam(grid.parameters(), betas=(0.5, 0.999)) for grid in by_hand.grids]
    for update in range(3):
        for grid, gradients in enumerate(gradients_by_hand(by_hand, update)):
            for parameter, gradient in zip(by_hand.grids[grid].parameters(), gradients, strict=True):
                parameter.grad = gradient
            adams[grid].param_groups[0]["lr"] = METHOD.learning_rate[grid] * rate_factor(update, METHOD)
            adams[grid].step()
        learn(learner, PIXELS, INDICES, update, METHOD)
    torch.testing.assert_close(weights(learner.model), weights(by_hand), rtol=1e-4, atol=2e-5)


def test_weights_take_a_gradient_in_the_gap_and_none_in_the_chain():
    learner, seen = small_learner(), []
    learner.model.grids[1].register_forward_pre_hook(lambda grid, _: seen.append(grid.network[0].weight.requires_grad))
    learn(learner, PIXELS, INDICES, 0, METHOD)
    assert seen == [False] * METHOD.langevin[1].num_steps + [True, True]


def test_metrics_say_what_the_update_did():
    learner = small_learner()
    metrics = dict(zip(METRICS, learn(learner, PIXELS, INDICES, 0, METHOD).metrics.T, strict=True))
    norm = torch.cat([p.grad.flatten() for p in learner.model.grids[0].parameters()]).norm()
    torch.testing.assert_close(metrics["gradient_norm"][0], norm)
    assert metrics["skipped"].tolist() == [0, 0]
    assert ((metrics["saturation"] >= 0) & (metrics["saturation"] <= 1)).all()

    fresh = small_model()
    noise = ChainNoise(INDICES, METHOD.seed, 0)
    start_images = pool(observe(PIXELS, INDICES, 0, METHOD), 1)
    images, last = synthesise(fresh, start_images, noise, sizes=METHOD.sizes, langevin=METHOD.langevin)
    torch.testing.assert_close(metrics["energy_synthesised"][1], fresh.grids[1](images[1]).mean().detach())
    torch.testing.assert_close(metrics["drift_squared"][0], last[0].drift.square().mean())


@pytest.mark.parametrize("bad", [0, 1])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_changes_nothing_of_its_grid_and_the_other_goes_on(bad, value):
    learner, healthy = small_learner(), small_learner()
    train(learner, 2), train(healthy, 3)
    before, state = weights(learner.model.grids[bad]), adam_state(learner, bad)

    parameter = list(learner.model.grids[bad].parameters())[2]
    hook = parameter.register_hook(lambda gradient: gradient * value)
    metrics = learn(learner, PIXELS, INDICES, 2, METHOD).metrics
    hook.remove()

    assert metrics[:, METRICS.index("skipped")].tolist() == [float(grid == bad) for grid in (0, 1)]
    assert all(map(torch.equal, weights(learner.model.grids[bad]), before))
    assert all(map(torch.equal, adam_state(learner, bad), state))
    assert all(map(torch.equal, weights(learner.model.grids[1 - bad]), weights(healthy.model.grids[1 - bad])))
    assert all(map(torch.equal, adam_state(learner, 1 - bad), adam_state(healthy, 1 - bad)))
    assert all(torch.isfinite(p).all() for p in learner.ema.parameters())

    assert learn(learner, PIXELS, INDICES, 3, METHOD).metrics[:, METRICS.index("skipped")].tolist() == [0, 0]
    assert not torch.equal(weights(learner.model.grids[bad])[0], before[0])


def test_a_first_gradient_that_is_not_finite_leaves_a_clean_optimiser():
    learner = small_learner()
    before = weights(learner.model)
    for parameter in learner.model.parameters():
        parameter.register_hook(lambda gradient: gradient * math.nan)
    learn(learner, PIXELS, INDICES, 0, METHOD)
    assert all(map(torch.equal, weights(learner.model), before))
    assert all(value.count_nonzero() == 0 for grid in (0, 1) for value in adam_state(learner, grid))


def test_the_norm_of_a_step_covers_all_its_gradients():
    parameters = [torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(1))]
    parameters[0].grad, parameters[1].grad = torch.tensor([2.0, 3.0]), torch.tensor([6.0])
    assert step(torch.optim.Adam(parameters, fused=True), 0.1).item() == pytest.approx(7)
    torch.testing.assert_close(parameters[0].detach(), torch.full((2,), -0.1))  # Adam's first step is the rate


@pytest.mark.parametrize(("bound", "kept"), [(3.5, 0.5), (7.0, 1.0), (100.0, 1.0), (math.inf, 1.0)])
def test_a_gradient_beyond_the_bound_is_scaled_down_to_it(bound: float, kept: float):
    parameters = [torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(1))]
    parameters[0].grad, parameters[1].grad = torch.tensor([2.0, 3.0]), torch.tensor([6.0])
    assert step(torch.optim.Adam(parameters, fused=True), 0.1, clip_norm=bound).item() == pytest.approx(7)
    torch.testing.assert_close(parameters[0].grad, kept * torch.tensor([2.0, 3.0]), rtol=1e-5, atol=0)
    torch.testing.assert_close(parameters[1].grad, kept * torch.tensor([6.0]), rtol=1e-5, atol=0)


def test_each_grid_has_its_bound():
    learner = small_learner()
    learn(learner, PIXELS, INDICES, 0, method(clip_norm=(1e-4, math.inf)))
    coarse, fine = (math.hypot(*(p.grad.norm().item() for p in grid.parameters())) for grid in learner.model.grids)
    assert coarse == pytest.approx(1e-4, rel=0.02) and fine > 0.01


def test_a_gradient_that_is_not_finite_is_skipped_where_there_is_a_bound_too():
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.grad = torch.tensor([1.0, math.nan])
    assert not torch.isfinite(step(torch.optim.Adam([parameter], fused=True), 0.1, clip_norm=1.0))
    assert torch.equal(parameter.detach(), torch.ones(2))


@pytest.mark.parametrize(("update", "deviation"), [(0, 0.05), (15, 0.03), (30, 0.01), (99, 0.01)])
def test_the_noise_on_observed_images_falls_over_the_first_part_of_learning(update: int, deviation: float):
    schedule = method(observed_noise=0.05, final_observed_noise=0.01, num_updates=100)
    assert observed_noise_at(update, schedule) == pytest.approx(deviation)
    zero = torch.zeros(200, 1, 8, 8)
    noisy = add_noise(zero, torch.arange(200), update, 0, schedule)
    assert noisy.std().item() == pytest.approx(deviation, rel=0.05)


@pytest.mark.parametrize(
    ("update", "factor"),
    [(0, 0.1), (4, 0.5), (9, 1.0), (59, 0.51), (109, 0.02), (500, 0.02)],  # first, half-way, full; half-way down, last
)
def test_the_rate_warms_up_then_falls_as_a_cosine_to_its_final_value(update, factor):
    schedule = method(num_updates=110, warmup=10, final_rate=0.02)
    assert rate_factor(update, schedule) == pytest.approx(factor)


def test_without_warm_up_and_decay_the_rate_is_constant():
    assert [rate_factor(update, method(warmup=0, final_rate=1.0)) for update in (0, 7, 19)] == [1, 1, 1]


def test_the_average_of_the_weights_follows_its_recursion():
    learner = small_learner()
    expected = weights(learner.model)
    for update in range(12):
        learn(learner, PIXELS, INDICES, update, method(ema=0.5))
        decay = min(0.5, (1 + update) / (10 + update))
        expected = [decay * e + (1 - decay) * w for e, w in zip(expected, weights(learner.model), strict=True)]
    torch.testing.assert_close(weights(learner.ema), expected)
    assert not any(p.requires_grad for p in learner.ema.parameters())


def test_the_average_keeps_the_buffers_of_a_spectral_norm():
    learner = small_learner(small_model(norm="spectral"))
    train(learner, 2)
    assert all(map(torch.equal, learner.ema.buffers(), learner.model.buffers()))


def test_dequantised_values_stay_inside_their_level():
    pixels, indices = random_pixels(200, channels=3)
    images = observe(pixels, indices, 0, METHOD)
    low = pixels / 128 - 1
    assert images.shape == pixels.shape and images.dtype == torch.float32
    assert (images >= low).all() and (images <= low + 1 / 128).all()
    within = ((images - low) * 128).double()  # uniform in (0, 1)
    assert within.mean().item() == pytest.approx(0.5, abs=4 / math.sqrt(12 * within.numel()))
    assert within.var().item() == pytest.approx(1 / 12, rel=0.02)


def test_flipping_mirrors_about_half_of_the_images_and_nothing_else():
    pixels, indices = random_pixels(400)
    plain, flipped = (observe(pixels, indices, 4, method(flip=flip)) for flip in (False, True))
    mirrored = (flipped == plain.flip(-1)).flatten(1).all(1)
    assert ((flipped == plain).flatten(1).all(1) ^ mirrored).all()
    assert abs(mirrored.sum().item() - 200) < 4 * 10
    again = observe(pixels, indices, 5, method(flip=True))
    assert ((again - flipped).abs().flatten(1).amax(1) > 0.1).sum() > 100  # a fresh draw at every update


def test_an_image_is_observed_alike_whatever_its_place_in_the_batch():
    pixels, indices = random_pixels(50)
    order = torch.randperm(50)[:20]
    flip = method(flip=True)
    assert torch.equal(observe(pixels[order], indices[order], 4, flip), observe(pixels, indices, 4, flip)[order])


def test_grids_are_independent_learners():
    learner, other = small_learner(), small_learner()
    with torch.no_grad():
        for parameter in other.model.grids[1].parameters():
            parameter.mul_(-3)
    train(learner, 4)
    train(other, 4, learning_rate=(METHOD.learning_rate[0], 0.1))
    assert all(map(torch.equal, weights(learner.model.grids[0]), weights(other.model.grids[0])))
    assert all(map(torch.equal, adam_state(learner, 0), adam_state(other, 0)))


def test_the_coarse_grid_learns_the_same_alone():
    together, alone = small_learner(), small_learner(MultiGridEnergy([small_model().grids[0]]))
    for update in range(3):
        images = observe(PIXELS, INDICES, update, METHOD)
        (z,) = noise(Purpose.OBSERVED, update, 0, 4, 1)
        chain = {"sizes": METHOD.sizes[:1], "langevin": METHOD.langevin[:1]}
        synthesised, _ = synthesise(alone.model, pool(images, 1), ChainNoise(INDICES, METHOD.seed, update), **chain)
        alone.optimizers[0].zero_grad()
        energies = alone.model([pool(images, 4) + METHOD.observed_noise * z], synthesised)
        (energies[0] - energies[1]).sum().backward()
        step(alone.optimizers[0], METHOD.learning_rate[0] * rate_factor(update, METHOD))
    train(together, 3)
    torch.testing.assert_close(weights(alone.model), weights(together.model.grids[0]), rtol=1e-5, atol=1e-6)


def test_the_same_updates_give_the_same_weights_bit_for_bit():
    one, two = small_learner(), small_learner()
    assert all(map(torch.equal, train(one, 3), train(two, 3)))
    assert all(map(torch.equal, weights(one.model), weights(two.model)))


def test_samples_of_a_tiny_real_run_look_like_its_images():
    """Images that are dark on the left and light on the right, out of chains that start at their mean colour."""
    pixels = torch.zeros(32, 1, 8, 8, dtype=torch.uint8)
    pixels[:, :, :, 4:] = 255
    learner = small_learner(small_model(reference_sigma=math.inf))
    short = method(num_updates=60, learning_rate=(5e-3, 5e-3), warmup=5)
    for update in range(60):
        learn(learner, pixels, torch.arange(32), update, short)
    noise = ChainNoise(torch.arange(1000, 1016), 99, purpose=Purpose.SAMPLE_CHAIN)
    images, _ = synthesise(learner.ema, torch.zeros(16, 1, 1, 1), noise, sizes=short.sizes, langevin=short.langevin)
    assert all((x[..., x.shape[-1] // 2 :].mean() - x[..., : x.shape[-1] // 2].mean()) > 0.5 for x in images)
