"""A disk that fills while `distmgcd debug` trains: a real file system of 16 MB, really full."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tiny_runs import TINY, debug, records_of, state_of

from distmgcd.runs import checkpoint
from distmgcd.runs.run_folder import Run

# Checkpoints of about 0.6 MB, and enough updates that the disk can be filled in the middle.
CHANGES = ("network.channels=[64,64]", "checkpoint.keep=2", "checkpoint.every=25", "learning.num_updates=500")
_BOUND_S = 150.0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MB, in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if done.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    debug(folder, *CHANGES)
    return folder


def start(disk: Path, out: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "distmgcd.cli", "debug", str(TINY), *CHANGES]
    with out.open("w") as file:
        return subprocess.Popen(
            [*command, "--storage-path", str(disk), "--name", "run", "--cpu"], stdout=file, stderr=subprocess.STDOUT
        )


def wait_until(condition: Callable[[], bool], process: subprocess.Popen, out: Path) -> None:
    end = time.monotonic() + _BOUND_S
    while not condition():
        assert process.poll() is None, out.read_text()
        assert time.monotonic() < end, out.read_text()
        time.sleep(0.01)


def fill(disk: Path) -> Path:
    """Take all that is left, twice: what a checkpoint under way gives back, too."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file:
        for size in (2**16, 2**10, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                pass
    return filler


def train_until_refused(disk: Path, out: Path) -> tuple[subprocess.Popen, Path]:
    """A run that has checkpoints and whose disk is then full, as it has noticed."""
    process = start(disk, out)
    wait_until((disk / "run" / "checkpoints" / "update_000050").exists, process, out)
    filler = fill(disk)
    wait_until(lambda: fill(disk) and "could not be written" in out.read_text(), process, out)
    return process, filler


def assert_ends_as(folder: Path, other: Path) -> None:
    ours, theirs = state_of(folder), state_of(other)
    assert ours.keys() == theirs.keys()
    assert not [name for name, value in ours.items() if not value.equal(theirs[name])]


def test_a_disk_that_is_full_for_a_while_costs_checkpoints_and_nothing_else(
    disk: Path, tmp_path: Path, undisturbed: Path
):
    out = tmp_path / "out"
    process, filler = train_until_refused(disk, out)
    assert not list((disk / "run" / "checkpoints").glob("*.*")), "nothing unfinished is left"
    filler.unlink()
    assert process.wait(_BOUND_S) == 0, out.read_text()
    said = out.read_text()
    assert "No space left on device); training goes on, the next checkpoint tries again" in said.replace("\n", " ")
    assert said.count("The log cannot be written") <= 1 and "Traceback" not in said
    assert_ends_as(disk, undisturbed)
    assert [r["update"] for r in records_of(disk) if "grids" in r] == list(range(1, 501)), "no record is lost"
    assert any("could not be written" in r.get("event", "") for r in records_of(disk))
    assert_tensorboard_reads(disk / "run" / "log", 500)


def test_a_disk_that_stays_full_ends_the_run_in_a_sentence_and_the_same_command_goes_on(
    disk: Path, tmp_path: Path, undisturbed: Path
):
    out = tmp_path / "out"
    process, filler = train_until_refused(disk, out)
    assert process.wait(_BOUND_S) == 2, out.read_text()
    said = out.read_text()
    last = said.splitlines()[-1]
    assert last.startswith("distmgcd: The run ") and "its last checkpoint could not be written (No space left" in last
    assert "free space" in last and "run the same command again" in last and "Traceback" not in said
    store = Run.open(str(disk / "run")).store
    newest = checkpoint.newest(store, warn=lambda text: pytest.fail(text)).progress.update
    assert 50 <= newest < 500 and not (disk / "run" / "result.json").exists()

    filler.unlink()
    again = start(disk, out)
    assert again.wait(_BOUND_S) == 0, out.read_text()
    assert f"Going on from the checkpoint of update {newest}." in out.read_text()
    assert_ends_as(disk, undisturbed)
    assert [r["update"] for r in records_of(disk) if "grids" in r] == list(range(1, 501))


def test_a_disk_that_is_full_from_the_start_is_one_sentence(disk: Path, tmp_path: Path):
    fill(disk)
    out = tmp_path / "out"
    process = start(disk, out)
    assert process.wait(_BOUND_S) == 2
    first, said = out.read_text().splitlines()
    assert first.startswith("Run ") and said.startswith("distmgcd: The run ")
    assert "cannot be written (No space left on device)" in said


def assert_tensorboard_reads(folder: Path, num_updates: int) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    assert [event.step for event in board.Scalars("gap/grid_8")] == list(range(1, num_updates + 1))
    assert board.Tags()["images"] == ["samples"]
