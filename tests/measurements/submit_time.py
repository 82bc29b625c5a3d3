"""Seconds from `distmgcd submit` to the first update on a running cluster, and what was sent.

    python tests/measurements/submit_time.py [TIMES]

The cluster is that of the rehearsal: a head and two workers on this machine, one Ray Train worker on each.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
from ray_runs import COMMAND
from rehearsal_cluster import Network
from tiny_runs import TINY


def main(times: int) -> None:
    with tempfile.TemporaryDirectory() as folder, Network(Path(folder)) as network:
        head, workers = network.head(), [network.worker(), network.worker()]
        head.start()
        head.wait()
        for node in workers:
            node.start()
        for node in workers:
            node.wait()
        laptop = Path(folder) / "laptop"
        laptop.mkdir()
        (laptop / "my.yaml").write_text(TINY.read_text())
        seconds = [submit(network, laptop, Path(folder) / "runs", f"run{number}") for number in range(times)]
    print(f"to the first update: {statistics.median(seconds):.1f} s ({min(seconds):.1f} to {max(seconds):.1f})")


def submit(network: Network, laptop: Path, storage: Path, name: str) -> float:
    """Returns the seconds until the log has a record of the first update."""
    command = [COMMAND, "submit", "--", "train", "my.yaml", "--workers", "2", "--storage-path", str(storage)]
    since, log = time.monotonic(), storage / name / "log" / "metrics.jsonl"
    process = subprocess.Popen(
        [*command, "--name", name, "--cpu"],
        cwd=laptop,
        stdout=subprocess.PIPE,
        text=True,
        env=network.environment(),
    )
    print(process.stdout.readline().strip(), f"after {time.monotonic() - since:.1f} s", flush=True)
    while not log.exists() or not log.read_text().count("\n"):
        time.sleep(0.05)
    found = time.monotonic() - since
    print(f"{found:.1f} s to the first update", flush=True)
    process.communicate()
    return found


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
