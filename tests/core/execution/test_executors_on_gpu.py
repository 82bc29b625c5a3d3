"""The captured chain on a real GPU: `make test-gpu`."""

import pytest
import torch
from small_models import METHOD, method, random_pixels, small_learner, small_model

from distmgcd.core.execution.executors import PLAIN, Speed, TracedExecutor
from distmgcd.core.inpainting import inpaint
from distmgcd.core.learning import Learner, learn
from distmgcd.core.masks import draw_masks
from distmgcd.core.noise import Purpose
from distmgcd.core.synthesis import ChainNoise, synthesise

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA GPU on this machine"),
]
CAPTURED = Speed("captured", "fp32", False)


def ends(model: torch.nn.Module, executor: object, *, seed: int, num: int = 5, **changes: object) -> list[torch.Tensor]:
    start_images = torch.linspace(-1, 1, num, device="cuda")[:, None, None, None]
    langevin = [settings._replace(**changes) for settings in METHOD.langevin]
    noise = ChainNoise(torch.arange(num, device="cuda"), seed)
    return synthesise(model, start_images, noise, sizes=METHOD.sizes, langevin=langevin, executor=executor).images


def assert_same(model: torch.nn.Module, executor: object, **how: object) -> None:
    for found, expected in zip(
        ends(model, executor, **how), ends(model, TracedExecutor(PLAIN_FP32), **how), strict=True
    ):
        assert float((found - expected).norm() / expected.norm()) < 1e-5


PLAIN_FP32 = Speed("traced", "fp32", False)  # traced sets the same precision of products as captured does


@pytest.mark.parametrize("norm", ["none", "layer", "spectral", "batch"])
def test_captured_chains_are_the_traced_ones_and_keep_up_with_the_weights(norm: str):
    model = small_model(norm=norm).cuda()
    learner, executor = Learner(model, model, betas=(0.5, 0.999)), TracedExecutor(CAPTURED)
    pixels, indices = (t.cuda() for t in random_pixels(5))
    for update in range(3):
        for each in (learner.model, learner.ema):
            assert_same(each, executor, seed=update)
        assert_same(learner.model, executor, seed=update, step_size=0.3, temperature=0.01)  # no new capture
        assert_same(learner.model, executor, seed=update, num=3)  # another one
        learn(learner, pixels, indices, update, method(executor=executor, learning_rate=(0.05, 0.05)))
    assert len(executor._captured[model.grids[0]]) == 2


def test_captured_chains_hold_known_pixels_and_see_the_next_ones():
    model, executor = small_model().cuda(), TracedExecutor(CAPTURED)
    for seed in range(3):
        images, indices = torch.rand(5, 1, 8, 8, device="cuda") * 2 - 1, torch.arange(5, device="cuda")
        hidden = draw_masks("square", indices, 8, seed=seed, purpose=Purpose.MASK)
        how = {"seed": seed, "sizes": METHOD.sizes, "langevin": METHOD.langevin}
        found, expected = (
            inpaint(model, images, hidden, indices, executor=each, **how)[-1]
            for each in (executor, TracedExecutor(PLAIN_FP32))
        )
        assert torch.equal(found.masked_select(~hidden), images.masked_select(~hidden))
        assert float((found - expected).norm() / expected.norm()) < 1e-5
    assert len(executor._captured[model.grids[1]]) == 1


def test_traced_chains_on_a_gpu_are_the_plain_ones():
    model = small_model().cuda()
    with torch.backends.cudnn.flags(allow_tf32=False):
        expected = ends(model, PLAIN, seed=1)
    for found, plain in zip(ends(model, TracedExecutor(PLAIN_FP32), seed=1), expected, strict=True):
        assert float((found - plain).norm() / plain.norm()) < 1e-5


@pytest.mark.parametrize("precision", ["bf16", "tf32"])
def test_fast_precisions_run_and_stay_near(precision: str):
    model = small_model().cuda()
    executor = TracedExecutor(Speed("captured", precision, True))
    for found, expected in zip(ends(model, executor, seed=1), ends(model, PLAIN, seed=1), strict=True):
        assert found.dtype == torch.float32 and float((found - expected).norm() / expected.norm()) < 0.1


@pytest.mark.parametrize("start_average", [None, lambda gradient: lambda: None], ids=["after", "beside the chains"])
def test_an_update_makes_no_host_wait_for_the_gpu(start_average):
    learner = small_learner(small_model().cuda(), start_average=start_average)
    pixels, indices = (t.cuda() for t in random_pixels(5))
    for execution in ("traced", "captured"):
        how = method(executor=TracedExecutor(Speed(execution, "fp32", False)))
        learn(learner, pixels, indices, 0, how)
        torch.cuda.set_sync_debug_mode("error")
        try:
            learn(learner, pixels, indices, 1, how)
        finally:
            torch.cuda.set_sync_debug_mode("default")
