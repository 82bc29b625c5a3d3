"""Every execution runs the same chain, with the weights as they are when it starts."""

from collections.abc import Iterator
from copy import deepcopy
from functools import partial

import pytest
import torch
from small_models import METHOD, method, random_pixels, small_energy, small_learner, small_model
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _SpectralNorm

from distmgcd.config import PAPER_LAYERS
from distmgcd.core.energy import ConvEnergy, frozen
from distmgcd.core.execution import executors, traced
from distmgcd.core.execution.captured import CapturedChain
from distmgcd.core.execution.executors import PLAIN, Speed, TracedExecutor
from distmgcd.core.execution.traced import TracedGradient
from distmgcd.core.execution.warn_once import warn_once
from distmgcd.core.grids import expand
from distmgcd.core.langevin import Langevin, run_chain
from distmgcd.core.learning import learn
from distmgcd.core.networks import ACTIVATIONS, ConvLayer, convnet
from distmgcd.core.noise import Purpose, normals
from distmgcd.core.synthesis import ChainNoise, iter_grid_steps, synthesise

CPU = torch.device("cpu")
CHAIN = Langevin(num_steps=15, step_size=0.5, temperature=1e-3, clamp="end")
NORMS = ("none", "layer", "spectral", "batch")
FP32 = Speed("traced", "fp32", False)


@pytest.fixture(autouse=True)
def _nothing_said_yet():
    warn_once.cache_clear()
    torch.manual_seed(0)


def noise(x: Tensor, num_steps: int = 15) -> Iterator[Tensor]:
    return normals(torch.arange(len(x)), tuple(x.shape[1:]), num_steps, seed=1, purpose=Purpose.CHAIN)


def starts(size: int, channels: int = 1, num: int = 6) -> Tensor:
    return torch.rand(num, channels, size, size) * 2 - 1


def chain(executor: executors.ChainExecutor, energy: nn.Module, x: Tensor, settings: Langevin = CHAIN) -> Tensor:
    with frozen(energy):
        return executor.run_chain(energy, x, noise(x, settings.num_steps), settings)[0]


def exact_chain(energy: nn.Module, x: Tensor, settings: Langevin) -> Tensor:
    """In fp64, with the noise that is drawn in fp32."""
    exact, x = deepcopy(energy).double(), x.double()
    with frozen(exact):
        return run_chain(exact, x, (z.double() for z in noise(x, settings.num_steps)), settings)[0]


def assert_same_chain(
    executor: executors.ChainExecutor, energy: nn.Module, x: Tensor, settings: Langevin = CHAIN
) -> None:
    """Up to rounding, which a chain may magnify: how much on this CPU is seen by how far plain is from fp64."""
    found, expected, exact = (
        *(chain(w, energy, x, settings) for w in (executor, PLAIN)),
        exact_chain(energy, x, settings),
    )
    of_plain, apart = (float((end - expected).norm() / expected.norm()) for end in (exact, found))
    assert apart < max(1e-5, 10 * of_plain) and of_plain < 1e-3
    assert float((expected - x).norm() / x.norm()) > 1e-2  # it went somewhere


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("size", [2, 8])  # convolutions folded, and not
def test_a_traced_chain_is_the_plain_one(size: int, norm: str, activation: str):
    energy = small_energy(size, norm=norm, activation=activation, reference_sigma=2.0)
    assert_same_chain(TracedExecutor(FP32), energy, starts(size, num=16))


@pytest.mark.parametrize("size", [4, 16])
def test_so_it_is_with_the_networks_of_the_paper(size: int):
    layers = [ConvLayer(*layer) for layer in PAPER_LAYERS[size]]
    energy = ConvEnergy(convnet(size, 3, layers, activation="leaky_relu", norm="none"), reference_sigma=2.0)
    settings = CHAIN._replace(num_steps=5)
    assert_same_chain(TracedExecutor(FP32), energy, starts(size, 3, num=2), settings)


@pytest.mark.parametrize("clamp", ["none", "end", "step"])
def test_clamps_and_steps_are_those_of_the_plain_chain(monkeypatch: pytest.MonkeyPatch, clamp: str):
    monkeypatch.setattr(traced, "put_quick_forms", lambda *_: None)  # so that they are it bit for bit
    energy, x = small_energy(8), starts(8)
    hot = CHAIN._replace(temperature=0.5, clamp=clamp)
    with frozen(energy):
        found, expected = (list(w.iter_steps(energy, x, noise(x), hot)) for w in (TracedExecutor(FP32), PLAIN))
        ends = [w.run_chain(energy, x, noise(x), hot) for w in (TracedExecutor(FP32), PLAIN)]
    for (x1, info1), (x2, info2) in zip([*found, ends[0]], [*expected, ends[1]], strict=True):
        assert torch.equal(x1, x2) and torch.equal(info1.energy, info2.energy) and torch.equal(info1.drift, info2.drift)


def test_iter_grid_steps_yields_the_chains_that_synthesise_ran():
    model, executor = small_model(), TracedExecutor(FP32)
    start_images, how = (
        torch.rand(3, 1, 1, 1),
        {"sizes": METHOD.sizes, "langevin": METHOD.langevin, "executor": executor},
    )
    ends = synthesise(model, start_images, ChainNoise(torch.arange(3), 8), **how)
    last = {
        grid: (x, info)
        for grid, _, x, info in iter_grid_steps(model, start_images, ChainNoise(torch.arange(3), 8), **how)
    }
    for grid, (x, info) in last.items():
        assert torch.equal(x, ends.images[grid]) and torch.equal(info.drift, ends.last_steps[grid].drift)


# Weights


@pytest.mark.parametrize(
    ("norm", "speed"),
    [*((norm, FP32) for norm in NORMS), ("none", Speed("traced", "bf16")), ("spectral", Speed("traced", "bf16"))],
    ids=str,
)
def test_after_an_update_chains_use_the_new_weights(norm: str, speed: Speed):
    """The model's and the averaged ones alike, and those that a checkpoint puts back."""
    learner, x, executor = small_learner(small_model(norm=norm)), starts(4), TracedExecutor(speed)
    pixels, indices = random_pixels(6)
    fast_method = method(executor=executor, learning_rate=(0.05, 0.05), warmup=1)
    ends, saved = [], {name: value.clone() for name, value in learner.model.state_dict().items()}

    def assert_up_to_date() -> None:
        for model in (learner.model, learner.ema):
            ends.append(chain(executor, model.grids[0], x))
            fresh = chain(TracedExecutor(speed), model.grids[0], x)  # has traced nothing yet
            assert torch.equal(ends[-1], fresh)

    assert_up_to_date()
    for update in range(2):
        learn(learner, pixels, indices, update, fast_method)
        assert_up_to_date()
    assert min(float((a - b).abs().max()) for a, b in zip(ends, ends[2:], strict=False)) > 1e-3
    learner.model.load_state_dict(saved)
    assert_up_to_date()
    if norm != "spectral":  # whose power iteration went on between
        assert torch.equal(ends[-2], ends[0])


def test_learning_by_traced_chains_is_learning_by_plain_ones():
    pixels, indices = random_pixels(6)
    learners = []
    for executor in (TracedExecutor(FP32), PLAIN):
        learners.append(small_learner())
        for update in range(3):
            learn(learners[-1], pixels, indices, update, method(executor=executor))
    for ours, theirs in zip(*(learner.model.parameters() for learner in learners), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_spectral_norm_is_computed_once_a_chain(monkeypatch: pytest.MonkeyPatch):
    energy, x, executor, calls = small_energy(8, norm="spectral"), starts(8), TracedExecutor(FP32), []
    compute = _SpectralNorm.forward
    monkeypatch.setattr(_SpectralNorm, "forward", lambda self, weight: calls.append(1) or compute(self, weight))
    for _ in range(2):
        calls.clear()
        chain(executor, energy, x)
        assert len(calls) == 3


def test_what_was_traced_goes_with_its_energy():
    executor, energy = TracedExecutor(FP32), small_energy(4)
    chain(executor, energy, starts(4))
    assert len(executor._traced) == 1
    del energy
    assert len(executor._traced) == 0


# Captured, as far as that can be tried without a GPU: work that is done again stands for a graph that is replayed


@pytest.mark.parametrize("clamp", ["none", "end", "step"])
def test_a_captured_chain_is_the_plain_one_whatever_weights_and_numbers(clamp: str):
    energy, x = small_energy(4, reference_sigma=2.0), starts(4)
    settings, captures = CHAIN._replace(clamp=clamp), []
    with frozen(energy):
        traced = TracedGradient(energy, x)
        captured = CapturedChain(
            traced.step, x, traced.prepare(energy), settings, capture=lambda work: captures.append(work()) or work
        )
        memory = [t.data_ptr() for t in (captured._start, captured._noise, captured._end, *captured._prepared)]
        for changed in (settings, settings._replace(step_size=0.7, temperature=0.5)):
            for _ in range(2):
                start = starts(4)
                found = captured(start, noise(start), traced.prepare(energy), changed)
                expected = PLAIN.run_chain(energy, start, noise(start), changed)
                for ours, theirs in zip((found[0], *found[1]), (expected[0], *expected[1]), strict=True):
                    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
                with torch.no_grad():
                    for parameter in energy.parameters():
                        parameter.add_(0.3 * torch.randn_like(parameter))
    assert len(captures) == 1  # and all of it on the same memory, or a graph would not see it
    assert memory == [t.data_ptr() for t in (captured._start, captured._noise, captured._end, *captured._prepared)]


@pytest.fixture
def as_if_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Speed, "on", lambda self, device: self)
    monkeypatch.setattr(executors, "CapturedChain", partial(CapturedChain, capture=lambda work: work))


def test_every_model_and_shape_has_a_capture_of_its_own_and_no_update_needs_another(as_if_on_a_gpu: None):
    learner, executor = small_learner(), TracedExecutor(Speed("captured", "fp32", False))
    pixels, indices = random_pixels(6)
    for update in range(3):
        for energy in (learner.model.grids[0], learner.ema.grids[0]):
            for num in (6, 4):
                assert_same_chain(executor, energy, starts(4, num=num))
        learn(learner, pixels, indices, update, method(executor=executor, learning_rate=(0.05, 0.05), warmup=1))
    assert len(executor._captured[learner.ema.grids[0]]) == 2
    assert len(executor._captured[learner.model.grids[0]]) == 3  # also the shorter chains of learning


def test_where_a_capture_fails_chains_are_traced_and_that_is_said_once(
    as_if_on_a_gpu: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def fails(*args: object) -> None:
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing")

    monkeypatch.setattr(executors, "CapturedChain", fails)
    executor = TracedExecutor(Speed("captured", "fp32", False))
    for _ in range(2):
        assert_same_chain(executor, small_energy(4), starts(4))
    (said,) = caplog.messages
    assert "not permitted when stream is capturing): it is traced" in said


def test_what_a_captured_chain_gives_is_not_overwritten_by_the_next():
    energy, x = small_energy(4), starts(4)
    with frozen(energy):
        traced = TracedGradient(energy, x)
        captured = CapturedChain(traced.step, x, traced.prepare(energy), CHAIN, capture=lambda work: work)
        first, info = captured(x, noise(x), traced.prepare(energy), CHAIN)
        kept = [t.clone() for t in (first, *info)]
        captured(-x, noise(x), traced.prepare(energy), CHAIN)
    assert all(map(torch.equal, (first, *info), kept))


# bf16


@pytest.fixture(scope="module")
def trained() -> ConvEnergy:
    """Grid 8, after so many updates that its chains lead somewhere."""
    torch.manual_seed(0)
    learner = small_learner()
    pixels, indices = smooth_pixels(64)
    for update in range(60):
        batch = slice(update % 4 * 16, update % 4 * 16 + 16)
        learn(learner, pixels[batch], indices[batch], update, method(num_updates=60, learning_rate=(0.02, 0.02)))
    return learner.model.grids[1]


def smooth_pixels(num: int) -> tuple[Tensor, Tensor]:
    """Pictures of four brightnesses, one a quarter."""
    coarse, indices = random_pixels(num, size=2)
    return expand(coarse, 8), indices


def moments_apart(found: Tensor, expected: Tensor) -> float:
    """How far means, deviations and correlations of neighbours are apart, in standard errors; the largest."""

    def moments(x: Tensor) -> Tensor:
        x, other = x.flatten(1).double(), x.roll(1, -1).flatten(1).double()
        return torch.cat([x, x.square(), x * other], dim=1)

    ours, theirs = moments(found), moments(expected)
    error = ((ours.var(0) + theirs.var(0)) / len(theirs)).sqrt()
    return float(((ours.mean(0) - theirs.mean(0)) / error).abs().max())


@pytest.mark.parametrize("activation", ["leaky_relu", "silu"])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("size", [2, 8])
def test_in_bf16_a_plain_step_is_the_traced_one_up_to_the_rounding_of_bf16(size: int, norm: str, activation: str):
    """Whose relative size is 2^-9 = 0.002 at every layer; the kernels round at other places."""
    energy, x = small_energy(size, norm=norm, activation=activation, reference_sigma=2.0), starts(size, num=16)
    one, drifts = CHAIN._replace(num_steps=1), {}
    for speed in (Speed("plain", "bf16"), Speed("traced", "bf16"), Speed("plain", "fp32")):
        with frozen(energy):
            x1, info = executors.executor_of(speed).run_chain(energy, x, noise(x, 1), one)
        drifts[speed] = info.drift
        assert x1.dtype == info.drift.dtype == info.energy.dtype == torch.float32
    plain, traced, exact = drifts.values()
    assert float((plain - traced).norm() / exact.norm()) < 0.015
    assert 1e-4 < float((plain - exact).norm() / exact.norm()) < 0.1  # it is in bf16


def test_plain_chains_in_bf16_leave_the_weights_as_they_are_and_follow_them():
    energy, x, executor = small_energy(8, norm="spectral"), starts(8), executors.executor_of(Speed("plain", "bf16"))
    before = {name: value.clone() for name, value in energy.state_dict().items()}
    first = chain(executor, energy, x)
    assert all(torch.equal(value, before[name]) for name, value in energy.state_dict().items())
    assert {p.dtype for p in energy.parameters()} == {torch.float32} and all(
        p.requires_grad for p in energy.parameters()
    )
    with torch.no_grad():
        energy.network[-1].parametrizations.weight.original.add_(0.1)
    assert not torch.equal(chain(executor, energy, x), first)


@pytest.mark.parametrize("speed", [Speed("plain", "fp32"), Speed("plain", "bf16")], ids=str)
def test_plain_chains_go_through_what_a_debugger_stops_in(speed: Speed, monkeypatch: pytest.MonkeyPatch):
    steps, forwards = [], []
    step, forward = executors.langevin_step, ConvEnergy.forward
    monkeypatch.setattr(executors, "langevin_step", lambda *args: steps.append(1) or step(*args))
    monkeypatch.setattr(ConvEnergy, "forward", lambda self, x: forwards.append(1) or forward(self, x))
    chain(executors.executor_of(speed), small_energy(4), starts(4))
    assert len(steps) == len(forwards) == CHAIN.num_steps


def test_in_bf16_chains_have_the_moments_of_fp32(trained: ConvEnergy):
    """Against chains of other noise, so that the largest of 192 statistics is about 3 if nothing differs."""
    settings = CHAIN._replace(temperature=4e-4)  # noise of 0.01 a step, as in the presets
    x = expand(starts(2, num=4000), 8)
    calm = chain(PLAIN, trained, x, settings._replace(temperature=0.0))

    def departures(executor: executors.ChainExecutor, seed: int, settings: Langevin = settings) -> Tensor:
        z = normals(torch.arange(len(x)), (1, 8, 8), 15, seed=seed, purpose=Purpose.CHAIN)
        with frozen(trained):
            return executor.run_chain(trained, x, z, settings)[0] - calm

    expected = departures(PLAIN, 1)
    assert moments_apart(departures(PLAIN, 2), expected) < 5
    assert moments_apart(departures(TracedExecutor(Speed("traced", "bf16")), 2), expected) < 5
    stronger = settings._replace(step_size=1.025 * settings.step_size)  # a drift that is 5 % off
    assert moments_apart(departures(PLAIN, 2, stronger), expected) > 10


# What is chosen, and what is said


def test_auto_is_a_rule_of_the_kind_of_device(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": False})
    assert Speed().on(CPU) == Speed("traced", "fp32", "auto")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert Speed().on(CPU) == Speed("traced", "bf16", True)
    gpu = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    assert Speed().on(gpu) == Speed("captured", "bf16", True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    assert Speed().on(gpu) == Speed("captured", "fp32", "auto")
    assert Speed(precision="tf32").on(gpu) == Speed("captured", "tf32", "auto")


def test_what_only_a_gpu_can_is_left_out_elsewhere_and_said_once(caplog: pytest.LogCaptureFixture):
    for _ in range(2):
        assert Speed("captured", "tf32", False).on(CPU) == Speed("traced", "fp32", False)
    first, second = caplog.messages
    assert "speed.execution=captured needs a CUDA GPU" in first and "speed.precision=tf32 needs a CUDA GPU" in second


class InPlace(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.square().mul_(2.0).flatten(1).sum(1)


@pytest.mark.parametrize("execution", ["traced", "compiled", "captured"])
def test_a_network_that_cannot_be_traced_runs_plain_and_that_is_said_once(
    execution: str, caplog: pytest.LogCaptureFixture
):
    executor = TracedExecutor(Speed(execution, "fp32", False))
    for size in (2, 4):
        x = starts(size)
        assert torch.equal(chain(executor, InPlace(), x), chain(PLAIN, InPlace(), x))
    (said,) = [m for m in caplog.messages if "cannot be traced" in m]
    assert "in place" in said and "plain" in said


def test_where_the_compiler_fails_chains_are_traced_and_that_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def no_compiler(*args: object) -> None:
        raise RuntimeError("No working C++ compiler found.\nA long story.")

    monkeypatch.setattr(torch, "compile", lambda step, **how: no_compiler)
    executor, energy = TracedExecutor(Speed("compiled", "fp32", False)), small_energy(8)
    for num in (3, 4):
        assert_same_chain(executor, energy, starts(8, num=num))
    assert caplog.messages == ["torch.compile failed (No working C++ compiler found): chains are traced instead."]


def test_no_chain_at_all_is_none(caplog: pytest.LogCaptureFixture):
    energy, x = small_energy(4), starts(4, num=0)
    assert chain(TracedExecutor(FP32), energy, x).shape == (0, 1, 4, 4) and not caplog.records
