"""The profile: its update is learn's, bit for bit; its phases and classes cover all of it."""

import json
import re
from contextlib import contextmanager

import pytest
import torch
from tiny_runs import tiny_config
from torch.profiler import record_function

from distmgcd.bench import phases
from distmgcd.bench.phases import Clock, learn_by_phase
from distmgcd.bench.profile import CLASSES, class_of_kernel, class_of_operator, no_phase, times_of
from distmgcd.bench.updates import Batch, training_pixels
from distmgcd.core.learning import learn
from distmgcd.models.assemble import make_learner, make_method
from distmgcd.workers.collectives import LocalWorker

CPU = torch.device("cpu")
PHASES = ["read", "observe", "chain 2x2", "noise 2x2", "chain 8x8", "noise 8x8", "gradient", "optimiser", "rest"]


def learner_and_batch(*changes: str):
    config = tiny_config(*changes)
    return make_learner(config, LocalWorker(CPU)), Batch(config, training_pixels(config)[0], CPU), make_method(config)


@pytest.mark.parametrize("changes", [(), ("data.flip=true", "network.norm=spectral", "langevin.clamp=step")])
def test_an_update_in_phases_is_learn(changes):
    ours, batch, method = learner_and_batch(*changes)
    theirs, _, _ = learner_and_batch(*changes)
    for update in range(3):
        learn_by_phase(ours, batch, update, method, no_phase)
        learn(theirs, batch.pixels, batch.indices, update, method)
    for which in ("model", "ema"):
        states = getattr(ours, which).state_dict(), getattr(theirs, which).state_dict()
        assert all(torch.equal(states[0][name], value) for name, value in states[1].items())


def test_phases_come_in_order_and_noise_is_inside_its_chain():
    learner, batch, method = learner_and_batch()
    entered, depth = [], []

    @contextmanager
    def around(phase):
        entered.append((phase, len(depth)))
        depth.append(phase)
        yield
        depth.pop()

    learn_by_phase(learner, batch, 0, method, around)
    assert list(dict.fromkeys(phase for phase, _ in entered)) == PHASES
    assert {phase for phase, inside in entered if inside} == {"noise 2x2", "noise 8x8"}


def test_the_clock_takes_what_is_nested_out(monkeypatch):
    now = iter([0.0, 1.0, 3.0, 6.0, 10.0, 10.5])
    monkeypatch.setattr(phases.time, "perf_counter", lambda: next(now))
    clock = Clock(CPU)
    with clock("chain"), clock("noise"):  # 0 to 6, of which 1 to 3 is noise
        pass
    with clock("optimiser"):  # 10 to 10.5
        pass
    assert clock.seconds() == {"chain": 1.0 + 3.0, "noise": 2.0, "optimiser": 0.5}


def test_classes_cover_a_profile_and_other_is_only_bookkeeping():
    learner, batch, method = learner_and_batch("network.channels=[8,8]")
    learn_by_phase(learner, batch, 0, method, no_phase)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile, record_function("update"):
        learn_by_phase(learner, batch, 1, method, record_function)
    events = profile.events()
    (whole,) = [event for event in events if event.name == "update"]
    times = times_of(events, set(PHASES), on_cuda=False)
    assert sum(times.values()) == pytest.approx(whole.cpu_time_total / 1e6, rel=1e-3)
    assert {kind for kind, _ in times} == set(CLASSES)
    bookkeeping = re.compile(
        r"between operators|^autograd::|Backward\d|AccumulateGrad|^detach_?$|^aten::(empty|as_strided|view|_?reshape|"
        r"expand|unsqueeze|squeeze|select|slice|split|t$|transpose|permute|flatten|unflatten|unbind|detach|resolve|lift|"
        r"_unsafe_view|alias|item|_local|result_type|narrow|chunk|set_|resize|unfold|is_|numpy|new_|stride|size|requires|unsafe)"
    )
    strange = [name for kind, name in times if kind == "other" and not bookkeeping.search(name)]
    assert not strange


@pytest.mark.parametrize(
    "name, phase, kind",
    [
        ("aten::mkldnn_convolution", "chain 8x8", "convolution"),
        ("aten::convolution_backward", "gradient", "convolution"),
        ("aten::mm", "gradient", "matrix product"),
        ("aten::leaky_relu_backward", "chain 8x8", "pointwise"),
        ("aten::add_", "chain 8x8", "pointwise"),
        ("aten::mul", "noise 8x8", "random/integer"),
        ("aten::randn_like", "", "random/integer"),
        ("aten::view", "noise 8x8", "other"),
        ("aten::copy_", "chain 8x8", "copies/reorders"),
        ("aten::sum", "chain 8x8", "reduction"),
        ("aten::_fused_adam_", "optimiser", "optimiser"),
        ("aten::mul", "optimiser", "optimiser"),
    ],
)
def test_an_operator_has_its_class(name, phase, kind):
    assert class_of_operator(name, phase) == kind


@pytest.mark.parametrize(
    "name, kind",
    [
        ("sm90_xmma_fprop_implicit_gemm_bf16bf16_bf16f32_f32_nhwckrsc_nhwc_tilesize128x128x64", "convolution"),
        ("void cudnn::ops::nchwToNhwcKernel<float, float, float, false, true>", "convolution"),
        ("ampere_sgemm_128x64_nn", "matrix product"),
        ("void at::native::vectorized_elementwise_kernel<4, at::native::AddFunctor<float>>", "pointwise"),
        ("void at::native::elementwise_kernel<128, 4, at::native::BitwiseXorFunctor<long>>", "random/integer"),
        ("void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float>>", "reduction"),
        ("void at::native::multi_tensor_apply_kernel<FusedAdamMathFunctor<float, 4>>", "optimiser"),
        ("Memcpy HtoD (Pinned -> Device)", "copies/reorders"),
        ("triton_poi_fused_add_mul_0", "pointwise"),
    ],
)
def test_a_kernel_has_its_class(name, kind):
    assert class_of_kernel(name) == kind


def test_the_command_says_where_the_time_goes(tmp_path, tiny, command):
    status, out, error = command("bench", tiny, "--profile", "--json", tmp_path / "profile.json", "--cpu")
    assert status == 0 and not error
    figures = json.loads((tmp_path / "profile.json").read_text())
    assert list(figures["phase_shares"]) == PHASES and list(figures["class_shares"]) == list(CLASSES)
    assert sum(figures["phase_shares"].values()) == pytest.approx(1)
    assert sum(figures["class_shares"].values()) == pytest.approx(1)
    assert 0.9 < figures["accounted_for"] <= 1.001
    assert figures["timers_over_none"] > 0.2 and figures["profiler_over_none"] > 0.5
    assert all(word in out for word in ("chain 8x8", "convolution", "What measuring costs"))
