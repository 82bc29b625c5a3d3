"""`distmgcd tune` with a real Ray of its own, and what its trials are compared with."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import torch
from ray_runs import COMMAND, left_of
from tiny_runs import TINY, state_of

from distmgcd.launch import start_run
from distmgcd.runs.run_folder import Run

HEAD = f"base: {TINY}\nsettings: {{learning.global_batch_size: 64, langevin.num_steps: 10}}\n"


class Swept(NamedTuple):
    folder: Path  # of the sweep
    status: int
    out: str
    err: str
    left: dict[int, str]  # processes of Ray

    def trial_state(self, name: str) -> dict[str, Any]:
        return json.loads((self.folder / "trials" / name / "trial.json").read_text())


def start_sweep(folder: Path, text: str, *arguments: str) -> subprocess.Popen:
    """`distmgcd tune` of this sweep file, as the sweep named try in a folder of its own."""
    (folder / "try.yaml").write_text(text)
    return subprocess.Popen(
        [COMMAND, "tune", "try.yaml", *arguments, "--cpu"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("RAY_A")},
    )


def finish_sweep(process: subprocess.Popen, folder: Path) -> Swept:
    try:
        out, err = process.communicate(timeout=400)
    finally:
        process.kill()
    return Swept(folder / "sweeps" / "try", process.returncode, out, err, left_of(process))


def process_of(trial: Path) -> int:
    """The one that trains this run, as its lock says."""
    return int((trial / "lock").read_text().split()[1])


def train_alone(trial: Path, folder: Path) -> None:
    """The config of a trial, trained in this process without a break."""
    start_run.debug(Run.open(str(trial)).config(), storage_path=str(folder), name="alone", use_gpu=False)


def is_same_bit_for_bit(trial: Path, other: Path) -> bool:
    ours, theirs = (state_of(run.parent, run.name) for run in (trial, other))
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)
