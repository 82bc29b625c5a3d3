"""The kernels of noise on a GPU draw what tensor operations draw: here by Triton's interpreter, there for real."""

import os
import subprocess
import sys

import pytest
import torch

from distmgcd.core import noise
from distmgcd.core.noise import Purpose, normals, random_words

SEEDS = (0, 7, (5 << 32) + 6, (1 << 63) + 11, (1 << 64) - 5)
SHAPES = {(1, 1, 1): 1, (1, 2, 2): 3, (3, 5, 7): 2, (3, 16, 16): 2}  # and how many steps


def assert_same_draws(device: str) -> None:
    from distmgcd.core.execution import noise_kernels

    images = torch.tensor([5, 2**31 + 4, 77, 1, 0])
    for shape, num_steps in SHAPES.items():
        for seed in SEEDS:
            when = {"seed": seed, "purpose": Purpose.MASK, "update": 1234, "grid": 2}
            steps, num_values = torch.arange(num_steps) + 3, torch.Size(shape).numel()
            how = {"seed": seed, "stream": Purpose.MASK << 28 | 2 << 20, "update": 1234}
            there = images.to(device), steps.to(device), num_values
            assert torch.equal(
                noise_kernels.words(*there, **how).cpu(), random_words(images, steps, num_values, **when)
            )
            expected = torch.stack(list(normals(images, shape, 3 + num_steps, **when)))[3:].flatten(2)
            found = noise_kernels.normals(*there, **how).cpu()
            assert found.shape == expected.shape
            torch.testing.assert_close(found, expected, rtol=0, atol=4e-6)
    nobody = torch.empty(0, dtype=torch.int64, device=device)
    assert noise_kernels.normals(nobody, steps.to(device), 5, **how).shape == (2, 0, 5)


def test_interpreted_kernels_draw_the_same():
    pytest.importorskip("triton", reason="torch came without Triton")
    code = "from test_noise_kernels import assert_same_draws; assert_same_draws('cpu')"
    environment = os.environ | {
        "TRITON_INTERPRET": "1",
        "PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path]),
    }
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("capability", [80, 90])
def test_kernels_can_be_built_for_gpus(capability: int):
    """Down to machine code, for which Triton needs no GPU."""
    triton = pytest.importorskip("triton", reason="torch came without Triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from distmgcd.core.execution import noise_kernels

    scalars = {"seed": "i64", "stream": "i64", "update": "i32", "num_images": "i32", "num_blocks": "i32"}
    for kernel, out, last in (
        (noise_kernels._draw_words, "*i64", {}),
        (noise_kernels._draw_normals, "*fp32", {"num_values": "i32"}),
    ):
        signature = {"out": out, "images": "*i64", "steps": "*i64", **scalars, "num_rows": "i32", **last}
        source = ASTSource(kernel, signature | {"N": "constexpr"}, constexprs={"N": 256})
        assert triton.compile(source, target=GPUTarget("cuda", capability, 32)).asm["cubin"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA GPU on this machine")
class TestOnGpu:
    def test_kernels_draw_the_same(self):
        assert noise._kernels(), "no kernels"
        assert_same_draws("cuda")

    def test_what_is_drawn_in_parts_is_the_same(self, monkeypatch: pytest.MonkeyPatch):
        when = {"seed": 7, "purpose": Purpose.CHAIN, "update": 3, "grid": 1}
        images = torch.arange(6, device="cuda")
        whole = torch.stack(list(normals(images, (3, 8, 8), 20, **when)))
        monkeypatch.setattr(noise, "_VALUES_AT_ONCE_ON_GPU", 6 * 192 * 7)
        assert torch.equal(torch.stack(list(normals(images, (3, 8, 8), 20, **when))), whole)

    def test_without_kernels_tensor_operations_draw_the_same(self, monkeypatch: pytest.MonkeyPatch):
        when = {"seed": 7, "purpose": Purpose.CHAIN, "update": 3, "grid": 1}
        images = torch.arange(6, device="cuda")
        by_kernel = torch.stack(list(normals(images, (3, 8, 8), 20, **when)))
        monkeypatch.setattr(noise, "_kernels", lambda: None)
        torch.testing.assert_close(
            torch.stack(list(normals(images, (3, 8, 8), 20, **when))), by_kernel, rtol=0, atol=4e-6
        )
