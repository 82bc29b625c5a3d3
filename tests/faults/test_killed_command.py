"""The command, or everything at once, is killed, and the same command is run again."""

import os
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
    newest_checkpoint,
    session,
    start,
    train_undisturbed,
    wait_until,
)
from ray_runs import left_of

pytestmark = pytest.mark.slow

# A network whose checkpoint takes long enough to write that it can be caught at it.
LARGE = ("network.channels=[512,512]", "learning.num_updates=30", "checkpoint.every=5", "langevin.num_steps=1")


def test_the_driver_is_killed(tmp_path: Path, undisturbed: Path):
    process = start(tmp_path, *CHANGES, "--workers", "2", **held(tmp_path, update=HELD))
    reached = at_update(tmp_path, process, 70)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert left_of(process, but="Agent") == {}
    update = newest_checkpoint(tmp_path)
    assert reached - update <= EVERY
    done = finish(start(tmp_path, *CHANGES, "--workers", "2"), tmp_path)
    assert done.status == 0, done.err
    ((gone_on_from, again),) = lost_updates(done.out)
    assert gone_on_from == update and again <= EVERY
    assert_same_run(done.folder, undisturbed)


def test_everything_is_killed_while_a_checkpoint_is_written(tmp_path: Path):
    """The power is cut, in effect: no process gets to do anything more."""
    process = start(tmp_path, *LARGE, "--workers", "2")
    checkpoints = tmp_path / "runs" / "run" / "checkpoints"

    def writing() -> list[Path]:
        return [path for path in checkpoints.glob("*.unfinished") if path.name != "update_000005.unfinished"]

    wait_until(lambda: bool(writing()), process)
    kill_session(process.pid)
    (unfinished,) = checkpoints.glob("*.unfinished")
    process.communicate()
    assert left_of(process) == {}
    update = newest_checkpoint(tmp_path)
    assert int(unfinished.stem.removeprefix("update_")) == update + 5
    done = finish(start(tmp_path, *LARGE, "--workers", "2"), tmp_path)
    assert done.status == 0, done.err
    ((gone_on_from, again),) = lost_updates(done.out)
    assert gone_on_from == update and again <= 5
    assert "damaged" not in done.out
    assert_same_run(done.folder, train_undisturbed(tmp_path / "undisturbed", 2, *LARGE))


def kill_session(leader: int) -> None:
    """SIGKILL to every process of a session: stopped first, so that none sees another die."""
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid, _ in list(session(leader)):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
