"""A worker that hangs: found in a bounded time, named, and the run goes on."""

import os
import re
import signal
from pathlib import Path

import pytest
from fault_runs import (
    CHANGES,
    EVERY,
    HELD,
    assert_same_run,
    at_update,
    finish,
    held,
    lost_updates,
    release,
    sabotaged,
    start,
    train_undisturbed,
    workers_of,
)

pytestmark = pytest.mark.slow

LIMIT = 5  # seconds that a worker may be stuck
WATCHED = (*CHANGES, f"watch.max_seconds_stuck={LIMIT}")


def seconds_stuck(out: str) -> int:
    return int(re.search(r"(\d+) s", re.search(r"Rank \d .*", out)[0])[1])


@pytest.mark.parametrize("which", ["one", "another"])
def test_a_frozen_worker_is_named_and_replaced(tmp_path: Path, undisturbed: Path, which: str):
    """Whichever of the two it is: one of them is the first, which the other then watches."""
    process = start(tmp_path, *WATCHED, "--workers", "2", **held(tmp_path, update=HELD))
    at_update(tmp_path, process, 70)
    frozen = sorted(workers_of(process))[which == "another"]
    os.kill(frozen, signal.SIGSTOP)
    release(tmp_path)
    done = finish(process, tmp_path)
    assert done.status == 0, done.err
    assert re.search(rf"Rank \d \(host \S+, process {frozen}\) has given no sign of life for \d+ s", done.out), done.out
    assert seconds_stuck(done.out) <= LIMIT + 2
    ((_, again),) = lost_updates(done.out)
    assert again <= EVERY
    assert_same_run(done.folder, undisturbed)
    assert done.left == {}


@pytest.mark.parametrize("rank", [0, 1])
def test_a_worker_in_an_endless_loop_is_named_with_its_line(tmp_path: Path, undisturbed: Path, rank: int):
    process = start(tmp_path, *WATCHED, "--workers", "2", **sabotaged("loop", rank=rank, update=70, folder=tmp_path))
    done = finish(process, tmp_path)
    assert done.status == 0, done.err
    assert re.search(rf"Rank {rank} \(host .*\) has been stuck in update 70 for \d+ s", done.out), done.out
    assert ", at loop.py, line " in done.out and seconds_stuck(done.out) <= LIMIT + 2
    assert lost_updates(done.out) == [(60, 10)]
    assert_same_run(done.folder, undisturbed)


def test_a_worker_stuck_in_its_chains_is_named_though_a_gradient_is_on_its_way(tmp_path: Path, undisturbed: Path):
    process = start(tmp_path, *WATCHED, "--workers", "2", **sabotaged("chain", rank=1, update=70, folder=tmp_path))
    done = finish(process, tmp_path)
    assert done.status == 0, done.err
    assert re.search(r"Rank 1 \(host .*\) has been stuck in update 70 for \d+ s, at ", done.out), done.out
    assert lost_updates(done.out) == [(60, 10)]
    assert_same_run(done.folder, undisturbed)


@pytest.mark.parametrize("how", ["loop", "frozen"])
def test_a_worker_that_hangs_alone_is_found_too(tmp_path: Path, how: str):
    environment = (
        sabotaged("loop", rank=0, update=70, folder=tmp_path) if how == "loop" else held(tmp_path, update=HELD)
    )
    process = start(tmp_path, *WATCHED, "--workers", "1", **environment)
    if how == "frozen":
        at_update(tmp_path, process, 70)
        os.kill(workers_of(process)[0], signal.SIGSTOP)
        release(tmp_path)
    done = finish(process, tmp_path)
    assert done.status == 0, done.err
    assert "Rank 0 " in done.out and "has been stuck" in done.out
    assert_same_run(done.folder, train_undisturbed(tmp_path / "undisturbed", 1, *CHANGES))
