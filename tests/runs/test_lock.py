"""One command trains a run at a time, and the lock goes with its process."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_runs import TINY, debug

from distmgcd.errors import UserError
from distmgcd.runs import lock
from distmgcd.runs.store import Store

HOLD = """
import sys
from distmgcd.runs import lock
from distmgcd.runs.store import Store
with lock.locked(Store(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path):
    """Another process that trains the run."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.communicate()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_PATIENCE_S", 0.05)


def test_a_second_command_gets_one_sentence_and_changes_nothing(tmp_path: Path, holder, impatient, command):
    for how in (("debug",), ("train", "--workers", 1)):
        status, out, err = command(*how, TINY, "--storage-path", tmp_path, "--name", "run", "--cpu")
        assert status == 2 and out.count("\n") == 1 and err.count("\n") == 1
        assert f"is being trained by process {holder.pid} on" in err and "another --name" in err
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["lock"]


def test_a_lock_goes_with_its_process_however_it_ends(tmp_path: Path, holder, impatient):
    store = Store(str(tmp_path / "run"))
    assert lock.is_locked(store)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert not lock.is_locked(store)
    debug(tmp_path)
    assert not lock.is_locked(store)


def test_a_run_of_another_name_is_free(tmp_path: Path, holder, impatient):
    debug(tmp_path, name="other")


def test_the_lock_is_held_while_a_run_trains(tmp_path: Path):
    held = []
    debug(tmp_path, show=lambda _: held.append(lock.is_locked(Store(str(tmp_path / "run")))))
    assert held and all(held)


def test_where_there_can_be_no_lock_nobody_is_kept_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def unsupported(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", unsupported)
    store = Store(str(tmp_path / "run"))
    with lock.locked(store), lock.locked(store):
        assert not lock.is_locked(store)
    for store in (Store("memory://no/locks"), Store("/proc/nowhere")):
        with lock.locked(store), lock.locked(store):
            assert not lock.is_locked(store)


def test_two_holders_in_one_process_exclude_each_other(tmp_path: Path, impatient):
    store = Store(str(tmp_path / "run"))
    with lock.locked(store), pytest.raises(UserError, match="is being trained by process"), lock.locked(store):
        pass
