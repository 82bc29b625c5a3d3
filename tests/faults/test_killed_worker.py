"""A worker that is killed in mid-chain."""

import os
import signal
from pathlib import Path

from fault_runs import CHANGES, EVERY, assert_same_run, at_update, finish, lost_updates, start, workers_of


def test_a_run_whose_worker_was_killed_ends_as_if_nothing_had_happened(tmp_path: Path, undisturbed: Path):
    process = start(tmp_path, *CHANGES, "--workers", "2")
    reached = at_update(tmp_path, process, 70)
    os.kill(workers_of(process)[-1], signal.SIGKILL)
    done = finish(process, tmp_path)
    assert done.status == 0, done.err
    assert "died (host" in done.out and "Starting the workers again (failure 1 of at most 3" in done.out
    ((update, again),) = lost_updates(done.out)
    assert update >= reached - reached % EVERY and again <= EVERY
    assert_same_run(done.folder, undisturbed)
    assert done.left == {}
