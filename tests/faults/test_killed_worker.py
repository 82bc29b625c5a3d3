"""A worker that is killed in mid-chain."""

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
    start,
    train_undisturbed,
    workers_of,
)
from tiny_runs import records_of


def test_a_run_whose_worker_was_killed_ends_as_if_nothing_had_happened(tmp_path: Path, undisturbed: Path):
    process = start(tmp_path, *CHANGES, "--workers", "2", **held(tmp_path, update=HELD))
    reached = at_update(tmp_path, process, 70)
    os.kill(workers_of(process)[-1], signal.SIGKILL)
    release(tmp_path)
    done = finish(process, tmp_path)
    assert done.status == 0, done.err
    assert "died (host" in done.out and "Starting the workers again (failure 1 of at most 3" in done.out
    ((update, again),) = lost_updates(done.out)
    assert update >= reached - reached % EVERY and again <= EVERY
    assert_same_run(done.folder, undisturbed)
    assert [record["after"] for record in records_of(done.folder) if "after" in record] == [
        [re.search(r"Rank \d died \(.*?\)\.", done.out)[0]]
    ]
    assert done.left == {}


@pytest.mark.slow
def test_persistent_chains_go_on_where_they_ended(tmp_path: Path):
    """Under Ray, stopped with two workers and gone on with one, bit for bit: a chain belongs to its image."""
    changes = (*CHANGES, "start.kind=persistent", "learning.block_size=4")
    how = ("--workers", "2", "--cpus-per-worker", "1")
    process = start(tmp_path, *changes, *how, **held(tmp_path, update=HELD))
    at_update(tmp_path, process, 70)
    os.kill(process.pid, signal.SIGTERM)
    assert finish(process, tmp_path).status == 143
    done = finish(start(tmp_path, *changes, "--workers", "1", "--cpus-per-worker", "1"), tmp_path)
    assert done.status == 0 and "with 1 worker (had 2)." in done.out, done.err
    assert_same_run(done.folder, train_undisturbed(tmp_path / "undisturbed", 2, *changes))
