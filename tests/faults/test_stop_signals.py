"""SIGTERM and Ctrl-C: the run saves where it is, says so, and leaves nothing behind."""

import os
import re
import signal
from pathlib import Path

import pytest
from fault_runs import (
    CHANGES,
    HELD,
    assert_same_run,
    at_update,
    finish,
    held,
    lost_updates,
    newest_checkpoint,
    start,
    wait_until,
)

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_the_same_command_goes_on(
    tmp_path: Path, undisturbed: Path, number: signal.Signals, status: int
):
    process = start(tmp_path, *CHANGES, "--workers", "2", **held(tmp_path, update=HELD))
    reached = at_update(tmp_path, process, 70)
    os.kill(process.pid, number)
    stopped = finish(process, tmp_path)
    assert stopped.status == status and stopped.left == {}
    (update,) = re.findall(
        r"^distmgcd: Stopped at update (\d+) and saved it; the same command goes on from there.\n$", stopped.err
    )
    assert reached <= int(update) == newest_checkpoint(tmp_path)
    done = finish(start(tmp_path, *CHANGES, "--workers", "2"), tmp_path)
    assert done.status == 0, done.err
    assert lost_updates(done.out) == [(int(update), 0)]
    assert_same_run(done.folder, undisturbed)


def test_a_second_signal_ends_the_command_at_once(tmp_path: Path):
    process = start(tmp_path, *CHANGES, "langevin.num_steps=5000", "--workers", "2")  # an update takes a while
    log = tmp_path / "runs" / "run" / "log"
    wait_until(log.exists, process)
    os.kill(process.pid, signal.SIGTERM)
    while "a second signal ends the run at once" not in process.stdout.readline():
        assert process.poll() is None
    os.kill(process.pid, signal.SIGTERM)
    stopped = finish(process, tmp_path)
    assert stopped.status == 143 and stopped.left == {}
    assert "Stopped at once; the same command goes on from the newest checkpoint, or from the beginning" in stopped.err
