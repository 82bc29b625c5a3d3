"""The real command through a real local Ray. A start takes a while, so there are three, looked at from all sides."""

import json
import os
import signal
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from ray_runs import Finished, finish, held, left_of, start, wait_until
from tiny_runs import TINY, debug, records_of, result_of, state_of

NUM_UPDATES, KILLED = 60, 35  # it is killed before update 35 has ended, whose newest checkpoint is of update 30
LONG = (f"learning.num_updates={NUM_UPDATES}", "checkpoint.every=10", "learning.learning_rate=1e-3")


class Killed(NamedTuple):
    update: int  # of its newest checkpoint
    left: dict[int, str]  # processes of Ray but for its agents, which look for their dead node for a minute
    left_in_the_end: dict[int, str]


@pytest.fixture(scope="module")
def killed_and_resumed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Killed, Finished]:
    """A run of two workers whose driver is killed in the middle, and the same command again."""
    folder = tmp_path_factory.mktemp("killed")
    process = start(folder, *LONG, "--workers", "2", **held(folder, update=KILLED))
    checkpoints = folder / "runs" / "run" / "checkpoints"
    try:
        wait_until(lambda: (checkpoints / "update_000030").exists(), process)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    left = left_of(process, but="Agent")
    update = max(int(path.name.removeprefix("update_")) for path in checkpoints.iterdir() if path.suffix == "")
    resumed = finish(start(folder, *LONG, "--workers", "2"), folder)
    return Killed(update, left, left_of(process, seconds=120)), resumed


@pytest.fixture(scope="module")
def one_worker(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("one_worker")
    return finish(start(folder, "--workers", "1"), folder)


def assert_learned_alike(folder: Path, other: Path, *, rtol: float, atol: float) -> None:
    ours, theirs = state_of(folder), state_of(other)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=rtol, atol=atol, msg=lambda m, name=name: f"{name}: {m}")


def test_two_workers_train_save_and_say_where(killed_and_resumed: tuple):
    _, done = killed_and_resumed
    assert done.status == 0, done.err
    assert "Traceback" not in done.err
    assert f"Finished {NUM_UPDATES} updates" in done.out and f"update {NUM_UPDATES}/{NUM_UPDATES}" in done.out
    assert all(row in done.out for row in ("fresh samples", "untrained model", "data against itself", "1000 x sliced"))
    for path in ("checkpoints", "samples.png"):
        assert f"runs/run/{path}" in done.out and (done.folder / "run" / path).exists()
    assert "tensorboard --logdir runs " in done.out and (done.folder / "run" / "log").exists()
    assert result_of(done.folder)["update"] == NUM_UPDATES


def test_a_killed_run_goes_on_from_its_newest_checkpoint(killed_and_resumed: tuple):
    killed, done = killed_and_resumed
    assert killed.update == 30
    assert f"Going on from the checkpoint of update {killed.update}." in done.out
    assert [r["update"] for r in records_of(done.folder) if "grids" in r] == list(range(1, NUM_UPDATES + 1))


def test_a_killed_run_learns_what_debug_mode_learns(killed_and_resumed: tuple, tmp_path: Path):
    debug(tmp_path, *LONG)
    assert_learned_alike(killed_and_resumed[1].folder, tmp_path, rtol=1e-4, atol=1e-5)
    ours, theirs = (result_of(folder)["swd"] for folder in (killed_and_resumed[1].folder, tmp_path))
    assert ours["untrained"] == pytest.approx(theirs["untrained"], rel=1e-4)
    assert ours["samples"] == pytest.approx(theirs["samples"], rel=2e-2)


def test_one_worker_learns_what_debug_mode_learns(one_worker: Finished, tmp_path: Path):
    assert one_worker.status == 0, one_worker.err
    debug(tmp_path)
    assert_learned_alike(one_worker.folder, tmp_path, rtol=1e-6, atol=1e-7)
    assert result_of(one_worker.folder)["swd"] == result_of(tmp_path)["swd"]


def test_no_process_of_ray_is_left_behind(killed_and_resumed: tuple, one_worker: Finished):
    killed, resumed = killed_and_resumed
    assert one_worker.left == resumed.left == {}
    assert killed.left == {} and killed.left_in_the_end == {}, "after the driver was killed"


def test_a_finished_run_says_its_result_again_without_ray(one_worker: Finished, command):
    status, out, _ = command(
        "train", TINY, "--workers", 1, "--storage-path", one_worker.folder, "--name", "run", "--cpu"
    )
    assert status == 0 and "finished before (6 updates" in out
    assert json.loads((one_worker.folder / "run" / "result.json").read_text())["update"] == 6
