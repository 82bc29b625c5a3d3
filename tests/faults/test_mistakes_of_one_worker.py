"""What only one worker sees ends the run where that is right, at once and in one sentence."""

from pathlib import Path

import pytest
from fault_runs import CHANGES, finish, sabotaged, start

pytestmark = pytest.mark.slow


def test_a_mistake_that_one_worker_sees_ends_the_run_at_once(tmp_path: Path):
    """The other worker waits for it in a collective meanwhile."""
    environment = sabotaged("mistake", rank=1, update=10, folder=tmp_path)
    done = finish(start(tmp_path, *CHANGES, "--workers", "2", **environment), tmp_path)
    assert done.status == 2 and done.left == {}
    assert done.err == "distmgcd: The disk of this machine is empty; fill it.\n"
    assert "Starting the workers again" not in done.out


def test_workers_that_fail_again_and_again_are_given_up_with_the_traceback(tmp_path: Path):
    environment = sabotaged("error", rank=1, update=10, folder=tmp_path)
    done = finish(start(tmp_path, *CHANGES, "--workers", "2", **environment), tmp_path)
    assert done.status == 1 and done.left == {}
    assert done.out.count("Starting the workers again") == 3
    assert "Rank 1 failed: ValueError: it is broken" in done.err and "sitecustomize.py" in done.err
