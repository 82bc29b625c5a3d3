"""The real command with a real Ray of its own: started, watched, and what it leaves behind."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from places import TESTS
from tiny_runs import TINY

COMMAND = str(Path(sys.executable).parent / "distmgcd")
SABOTAGE = TESTS / "faults" / "sabotage"


def left_of(process: subprocess.Popen, *, but: str = "nothing", seconds: float = 30.0) -> dict[int, str]:
    """The processes that a command has started and not ended, after waiting until they are gone, or for so long."""
    end = time.monotonic() + seconds
    while (found := {pid: line for pid, line in session(process.pid) if but not in line}) and time.monotonic() < end:
        time.sleep(0.2)
    return found


def session(leader: int) -> Iterator[tuple[int, str]]:
    """(process id, command line) of a session but for zombies. No other run on this machine is in it."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, sid = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has ended
            continue
        if int(sid) == leader and state not in "ZX":
            yield int(entry.name), line.strip()


def start(folder: Path, *arguments: str, **environment: str) -> subprocess.Popen:
    """`distmgcd train` of the tiny config in a folder of its own, as the run named run."""
    return subprocess.Popen(
        [COMMAND, "train", str(TINY), *arguments, "--storage-path", "runs", "--name", "run", "--cpu"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # which all that it starts belongs to
        env={name: value for name, value in os.environ.items() if not name.startswith("RAY_A")} | environment,
    )


def sabotaged(how: str, *, rank: int, update: int, folder: Path) -> dict[str, str]:
    """What the environment of a command must hold for that."""
    return {
        "DISTMGCD_SABOTAGE": f"{how}:{rank}:{update}:{folder / 'sabotaged'}",
        "PYTHONPATH": os.pathsep.join([str(SABOTAGE), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }


def held(folder: Path, *, update: int) -> dict[str, str]:
    """What makes the first worker wait before this update (they count from 0): there the run can be interrupted.

    It goes on when it is released, or asked to stop.
    """
    return sabotaged("wait", rank=0, update=update, folder=folder)


def release(folder: Path) -> None:
    """Let a run go on that is held, and not be held again."""
    (folder / "sabotaged").touch()


def wait_until(condition: Callable[[], bool], process: subprocess.Popen, *, seconds: float = 300.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.02)


class Finished(NamedTuple):
    folder: Path  # of all runs
    status: int
    out: str
    err: str
    left: dict[int, str]  # processes of Ray


def finish(process: subprocess.Popen, folder: Path) -> Finished:
    try:
        out, err = process.communicate(timeout=400)
    finally:
        process.kill()
    return Finished(folder / "runs", process.returncode, out, err, left_of(process))
