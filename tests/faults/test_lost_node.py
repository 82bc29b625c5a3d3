"""A node of a cluster that goes away in mid-run, and another one that joins."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from fault_runs import (
    EVERY,
    assert_same_run,
    at_update,
    finish,
    lost_updates,
    newest_checkpoint,
    start,
    train_undisturbed,
    updates_in,
    wait_until,
)
from places import TESTS
from ray_runs import left_of
from tiny_runs import records_of

pytestmark = pytest.mark.slow

NUM_UPDATES = 900  # the run must not be over before a node has joined
# Large batches: updates long enough that nodes can come and go. Blocks: one worker or two, the run is the same bit for
# bit, if a worker has as many threads as the other.
LONG = (
    f"learning.num_updates={NUM_UPDATES}",
    f"checkpoint.every={EVERY}",
    "langevin.num_steps=10",
    "learning.global_batch_size=1024",
    "learning.block_size=256",
)
WORKERS = ("--workers", "1:2", "--cpus-per-worker", "1")


class Nodes:
    """A Ray cluster of several nodes on this machine."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(TESTS / "helpers" / "cluster_process.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            env={**os.environ, "RAY_AUTH_MODE": "disabled"},
        )
        address, dashboard = self.process.stdout.readline().split()
        self.environment = {
            "RAY_ADDRESS": address,
            "RAY_API_SERVER_ADDRESS": dashboard,
            "RAY_AUTH_MODE": "disabled",
        }

    def tell(self, what: str) -> None:
        """add or remove; returns when it is done."""
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    """With two nodes of one CPU each beside the head, which has none."""
    cluster = Nodes()
    for _ in range(2):
        cluster.tell("add")
    yield cluster
    cluster.process.stdin.close()
    cluster.process.wait(60)
    cluster.process.stdout.close()
    assert left_of(cluster.process, seconds=60) == {}


def test_an_elastic_run_goes_on_with_one_worker_and_grows_back_to_two(tmp_path: Path, nodes: Nodes):
    process = start(tmp_path, *LONG, *WORKERS, **nodes.environment)
    at_update(tmp_path, process, 50)
    nodes.tell("remove")
    since = time.monotonic()
    wait_until(lambda: has_records(tmp_path, num_workers=1), process)
    print(f"{time.monotonic() - since:.0f} s from the loss of a node to the next update, with one worker")
    at_update(tmp_path, process, updates_in(tmp_path) + 30)
    nodes.tell("add")
    since, had = time.monotonic(), updates_in(tmp_path)
    wait_until(lambda: "had 1" in log_of(tmp_path), process)
    print(f"{time.monotonic() - since:.0f} s from a new node to two workers, and {updates_in(tmp_path) - had} updates")
    done = finish(process, tmp_path)
    assert done.status == 0, done.err
    assert done.left == {}
    assert "with 1 worker (had 2)." in done.out and "with 2 workers (had 1)." in done.out, done.out
    (_, lost), (_, lost_to_growth) = lost_updates(done.out)
    assert lost <= EVERY and lost_to_growth == 0  # before it grows, it saves
    counts = [record["num_workers"] for record in records_of(done.folder) if "grids" in record]
    assert len(counts) == NUM_UPDATES and [b for a, b in pairwise([0, *counts]) if a != b] == [2, 1, 2]
    assert_same_run(done.folder, train_undisturbed(tmp_path / "undisturbed", 2, *LONG))


def test_a_node_that_is_about_to_be_taken_away_costs_next_to_nothing(tmp_path: Path, nodes: Nodes):
    """The run saves as soon as it is told, and again when Ray ends its workers at the time that was announced."""
    changes = (*LONG, "learning.num_updates=100000", "checkpoint.every=100000")
    process = start(tmp_path, *changes, *WORKERS, **nodes.environment)
    at_update(tmp_path, process, 30)
    nodes.tell("drain")
    wait_until(lambda: newest_checkpoint(tmp_path) > 0, process)
    told_at = newest_checkpoint(tmp_path)
    wait_until(lambda: has_records(tmp_path, num_workers=1), process)
    process.send_signal(signal.SIGTERM)
    stopped = finish(process, tmp_path)
    assert stopped.status == 143 and stopped.left == {}, stopped.err
    ((gone_on_from, again),) = lost_updates(stopped.out)
    assert gone_on_from >= told_at and again == 0, stopped.out
    assert "constructor arguments" not in stopped.out + stopped.err  # which Ray says in red of its watcher


def log_of(folder: Path) -> str:
    return (folder / "runs" / "run" / "log" / "metrics.jsonl").read_text()


def has_records(folder: Path, *, num_workers: int) -> bool:
    return any(r["num_workers"] == num_workers for r in records_of(folder / "runs") if "grids" in r)
