"""Whole runs by every execution that a CPU has; what is fast must be the same run."""

from pathlib import Path

import pytest
import torch
import yaml
from tiny_runs import Stopped, debug, state_of, stop_after, tiny_config
from torch import nn

import distmgcd
from distmgcd.core.execution.executors import PlainExecutor, TracedExecutor
from distmgcd.core.execution.warn_once import warn_once
from distmgcd.models.assemble import make_executor, make_learner, make_method
from distmgcd.workers.collectives import LocalWorker

AUTO = ("speed.execution=auto", "speed.precision=auto")


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("traced")
    debug(folder, "speed.execution=traced", "speed.precision=fp32")
    return folder


def test_a_run_of_traced_chains_is_that_of_plain_ones_up_to_rounding(traced: Path, tmp_path: Path):
    debug(tmp_path, "speed.execution=plain", "speed.precision=fp32")
    ours, theirs = state_of(traced), state_of(tmp_path)
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-3, atol=1e-5)
    samples = [distmgcd.load(str(folder / "run"), device="cpu").sample(8) for folder in (traced, tmp_path)]
    torch.testing.assert_close(*samples, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("execution", "precision"), [("traced", "bf16"), ("plain", "bf16"), ("plain", "fp32")])
def test_a_run_goes_on_bit_for_bit_in_every_precision(tmp_path: Path, execution: str, precision: str):
    how = (f"speed.execution={execution}", f"speed.precision={precision}")
    debug(tmp_path, *how, name="unbroken")
    with pytest.raises(Stopped):
        debug(tmp_path, *how, show=stop_after(3))
    debug(tmp_path, *how)
    ours, theirs = state_of(tmp_path), state_of(tmp_path, "unbroken")
    assert not [name for name, value in theirs.items() if not torch.equal(ours[name], value)]


def test_a_run_from_before_there_was_such_a_section_goes_on(tmp_path: Path):
    debug(tmp_path, *AUTO, name="unbroken")
    with pytest.raises(Stopped):
        debug(tmp_path, *AUTO, show=stop_after(3))
    file = tmp_path / "run" / "config.yaml"
    settings = yaml.safe_load(file.read_text())
    del settings["speed"]
    file.write_text(yaml.safe_dump(settings))
    debug(tmp_path, *AUTO)
    ours, theirs = state_of(tmp_path), state_of(tmp_path, "unbroken")
    assert not [name for name, value in theirs.items() if not torch.equal(ours[name], value)]


def test_a_run_for_a_gpu_runs_without_one_and_that_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    warn_once.cache_clear()
    debug(tmp_path, "speed.execution=captured")
    assert len([m for m in caplog.messages if "speed.execution=captured needs a CUDA GPU" in m]) == 1


def test_the_same_settings_share_what_was_traced():
    one, other = tiny_config(), tiny_config("seed=3")
    assert isinstance(make_executor(one), TracedExecutor) and make_executor(one) is make_method(other).executor
    assert isinstance(make_executor(tiny_config("speed.execution=plain")), PlainExecutor)
    assert make_executor(tiny_config("speed.channels_last=true")) is not make_executor(one)


class OneOfMany(LocalWorker):
    """Notes what it is asked for as a learner is made."""

    def __init__(self, world_size: int):
        super().__init__(torch.device("cpu"))
        self.world_size, self.shared = world_size, []

    def wrap(self, model: nn.Module) -> nn.Module:
        return model if self.world_size == 1 else nn.Sequential(model)

    def share(self, model: nn.Module) -> None:
        self.shared.append(model)


@pytest.mark.parametrize(
    ("world_size", "changes", "beside", "wrapped"),
    [
        (2, (), True, False),
        (2, ("speed.overlap=false",), False, True),
        (2, ("learning.block_size=4",), False, False),
        (2, ("learning.block_size=4", "speed.overlap=false"), False, False),
        (1, (), False, False),
    ],
)
def test_several_workers_average_gradients_beside_the_chains_unless_told_otherwise(
    world_size, changes, beside, wrapped
):
    """And only those who average them in the backward pass, all at once, hold DDP and its buckets."""
    worker = OneOfMany(world_size)
    learner = make_learner(tiny_config(*changes), worker)
    assert (learner.start_average is not None) == beside
    assert (learner.wrapped is not learner.model) == wrapped
    assert wrapped or world_size == 1 or worker.shared == [learner.model]  # DDP gives all the same weights itself
