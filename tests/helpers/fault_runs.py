"""Runs that something befalls, the run that nothing befalls, and what the difference may be: none."""

import json
import re
import subprocess
from pathlib import Path

import torch
import torch.multiprocessing as mp
from ray_runs import finish, held, release, sabotaged, session, start, wait_until
from tiny_runs import records_of, state_of, tiny_config

from distmgcd.runs.run_folder import Run

EVERY = 20  # updates between two checkpoints: what may be lost, and no more
NUM_UPDATES = 140
HELD = 75  # the update at which a run waits that is to be interrupted there
CHANGES = (f"learning.num_updates={NUM_UPDATES}", f"checkpoint.every={EVERY}", "langevin.num_steps=4")


def train_undisturbed(folder: Path, num_workers: int, *changes: str) -> Path:
    """The run named run in a folder, by processes that no Ray starts; returns the folder."""
    folder.mkdir(exist_ok=True)
    Run.at(str(folder), "run").claim(tiny_config(*changes))
    mp.spawn(_run_rank, args=(num_workers, str(folder)), nprocs=num_workers)
    return folder


def _run_rank(rank: int, num_workers: int, folder: str) -> None:
    from distmgcd.training import loop
    from distmgcd.workers.collectives import ProcessGroupWorker
    from distmgcd.workers.end_rank import be_one_of_many

    torch.set_num_threads(1)

    def work() -> None:
        run = Run.open(f"{folder}/run")
        loop.train(run.config(), ProcessGroupWorker(torch.device("cpu")), run)

    be_one_of_many(work, "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=num_workers)


def workers_of(process: subprocess.Popen) -> list[int]:
    """Process ids of the Ray workers of a command that train."""
    return [pid for pid, line in session(process.pid) if "RayTrainWorker" in line]


def updates_in(folder: Path) -> int:
    """The update that the log of the run has got to."""
    log = folder / "runs" / "run" / "log" / "metrics.jsonl"
    lines = log.read_text().splitlines()[:-1] if log.exists() else []  # the last one may be under way
    return max((json.loads(line)["update"] for line in lines), default=0)


def at_update(folder: Path, process: subprocess.Popen, update: int) -> int:
    """Wait until the run has got to an update; returns which it is at."""
    wait_until(lambda: updates_in(folder) >= update, process)
    return updates_in(folder)


def newest_checkpoint(folder: Path) -> int:
    """0 if there is none."""
    names = [path.name for path in (folder / "runs" / "run" / "checkpoints").glob("update_*") if path.suffix == ""]
    return max((int(name.removeprefix("update_")) for name in names), default=0)


def lost_updates(out: str) -> list[tuple[int, int]]:
    """(the checkpoint gone on from, updates done again) of each time that a run went on, as it told its user."""
    start, lost = (
        r"(?:Going on from the checkpoint of update (\d+)|Starting again)[^.]*\.",
        r"(?: The log .*?, so (\d+))?",
    )
    return [(int(update or 0), int(again or 0)) for update, again in re.findall(start + lost, out)]


def assert_same_run(folder: Path, other: Path) -> None:
    """Bit for bit, and with every update in the log once."""
    ours, theirs = state_of(folder), state_of(other)
    assert ours.keys() == theirs.keys()
    assert not [name for name, value in theirs.items() if not torch.equal(ours[name], value)]
    updates, expected = ([r["update"] for r in records_of(f) if "grids" in r] for f in (folder, other))
    assert updates == expected


__all__ = ["finish", "held", "release", "sabotaged", "session", "start", "wait_until"]
