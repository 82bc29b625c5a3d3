"""Seconds from SIGKILL of one of two workers to the next update, and what of that is Ray's own.

    .venv/bin/python tests/measurements/restart_time.py [RUNS]

noticed     Ray has seen that the worker is gone
shut down   the rest of its group is ended
processes   new worker processes are there
re-entered  they have imported the training function, have met as a process group, and are in it: Ray's part ends
update      the first new update is in the log: data, model, checkpoint and one update
"""

import json
import os
import signal
import statistics
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

from fault_runs import at_update, finish, start, wait_until, workers_of

CHANGES = ("learning.num_updates=100000", "checkpoint.every=20", "langevin.num_steps=4")
# What Ray's controller logs, in turn, and what we call the time until then
MARKS = {
    "Shutting down 2 workers": "noticed",
    "Worker group shutdown successful": "shut down",
    "worker actors created in": "processes",
    "Started training worker group": "re-entered",
}


def main(num_runs: int = 3) -> None:
    runs = [measure() for _ in range(num_runs)]
    for name in runs[0]:
        seconds = sorted(run[name] for run in runs)
        print(f"{name:<11}{statistics.median(seconds):6.1f} s  ({seconds[0]:.1f} to {seconds[-1]:.1f} of {num_runs})")


def measure() -> dict[str, float]:
    """Seconds from the kill to each mark, and to the next update."""
    with tempfile.TemporaryDirectory() as folder:
        process = start(Path(folder), *CHANGES, "--workers", "2")
        reached = at_update(Path(folder), process, 100)
        killed_at = time.time()
        os.kill(workers_of(process)[-1], signal.SIGKILL)
        wait_until(lambda: first_record_after(Path(folder), killed_at + 1.0), process)
        found = marks(process.pid, killed_at) | {"update": time.time() - killed_at}
        process.send_signal(signal.SIGTERM)
        finish(process, Path(folder))
    assert reached >= 100
    return found


def first_record_after(folder: Path, when: float) -> bool:
    """The killed group writes no more records; the next group's first makes the file newer."""
    log = folder / "runs" / "run" / "log" / "metrics.jsonl"
    if not log.exists() or log.stat().st_mtime < when:
        return False
    last = log.read_text().splitlines()[-1]
    return "grids" in last


def marks(driver: int, since: float) -> dict[str, float]:
    (session,) = Path(tempfile.gettempdir(), "ray").glob(f"session_*_{driver}")
    (log,) = (session / "logs" / "train").glob("ray-train-sys-controller-*.log")
    found: dict[str, float] = {}
    for line in log.read_text().splitlines():
        record = json.loads(line)
        at = datetime.strptime(record["asctime"], "%Y-%m-%d %H:%M:%S,%f").timestamp() - since
        for words, name in MARKS.items():
            if words in record["message"] and at > 0:
                found.setdefault(name, at)
    return found


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
