"""From a laptop to a head and two workers: jobs over HTTP, with a token, and a host that goes and comes."""

import json
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from ray_runs import COMMAND
from rehearsal_cluster import Network, Node, why_not_here
from tiny_runs import TINY

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(why_not_here()), reason=str(why_not_here()))]

NUM_UPDATES = 400
LONG = (f"learning.num_updates={NUM_UPDATES}", "checkpoint.every=20", "langevin.num_steps=40", "log.every=1")
LONG = (*LONG, "learning.global_batch_size=512")


class Cluster(NamedTuple):
    network: Network
    workers: list[Node]
    laptop: Path  # a folder outside of the repository, with my.yaml in it
    storage: Path

    def submit(self, *arguments: str, token: str | None = "right") -> subprocess.Popen:
        return self.run("submit", *arguments, token=token)

    def run(self, *arguments: str, token: str | None = "right") -> subprocess.Popen:
        """What it prints goes to files: nobody reads a pipe while a test waits, and a full one would hold it up."""
        printed = Path(tempfile.mkdtemp(dir=self.laptop.parent))
        with (printed / "out").open("w") as out, (printed / "err").open("w") as err:
            process = subprocess.Popen(
                [COMMAND, *arguments],
                cwd=self.laptop,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=self.network.environment(token=token),
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # even where we ignore it
            )
        process.printed = printed
        return process

    def jobs(self) -> list[list[str]]:
        """The lines of `distmgcd jobs list`, newest job first."""
        done = finish(self.run("jobs", "list"))
        assert done.status == 0, done.err
        return [line.split() for line in done.out.splitlines()[1:]]

    def records(self, run: str) -> list[dict[str, Any]]:
        """Those of updates in the log of a run, as far as it is written."""
        log = self.storage / run / "log" / "metrics.jsonl"
        lines = log.read_text().splitlines(keepends=True) if log.exists() else []
        return [r for r in map(json.loads, (line for line in lines if line.endswith("\n"))) if "grids" in r]


class Done(NamedTuple):
    status: int
    out: str
    err: str


def finish(process: subprocess.Popen, seconds: float = 400.0) -> Done:
    try:
        process.wait(timeout=seconds)
    finally:
        process.kill()
        process.wait()
    return Done(process.returncode, *told(process))


def told(process: subprocess.Popen) -> list[str]:
    """All that it has printed so far, to stdout and stderr."""
    return [(process.printed / name).read_text() for name in ("out", "err")]


def wait_until(condition: Callable[[], bool], process: subprocess.Popen, *, seconds: float = 300.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, told(process)
        if time.monotonic() > end:
            process.kill()
            pytest.fail(f"it takes too long: {told(process)}")
        time.sleep(0.1)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("shared")
    laptop = tmp_path_factory.mktemp("laptop")
    (laptop / "my.yaml").write_text(TINY.read_text())
    with Network(folder) as network:
        head, workers = network.head(), [network.worker(), network.worker()]
        head.start()
        head.wait()
        for node in workers:
            node.start()
        for node in workers:
            node.wait()
        yield Cluster(network, workers, laptop, folder / "runs")
        secret = network.token_file.read_text()
        told = [file for node in (head, *workers) for file in node.own.glob("session_*/logs/**/*") if file.is_file()]
        assert told and not [str(file) for file in told if secret in file.read_text(errors="replace")]


def train(cluster: Cluster, name: str, *arguments: str, options: tuple[str, ...] = ()) -> subprocess.Popen:
    where = ("--storage-path", str(cluster.storage), "--name", name, "--cpu")
    return cluster.submit(*options, "--", "train", "my.yaml", *arguments, *where)


def test_a_run_on_two_hosts_loses_one_and_gets_it_back(cluster: Cluster):
    since = time.monotonic()
    process = train(cluster, "elastic", *LONG, "--workers", "1:2")
    wait_until(lambda: bool(cluster.records("elastic")), process)
    print(f"{time.monotonic() - since:.1f} s from submit to the first record")
    wait_until(lambda: len(cluster.records("elastic")) > 40, process)
    wait_until(lambda: all('run="elastic"' in node.metrics() for node in cluster.workers), process, seconds=60)
    ranks = {rank for node in cluster.workers for rank in "01" if f'rank="{rank}",run="elastic"' in node.metrics()}
    assert ranks == {"0", "1"}
    wait_until(lambda: "/" in cluster.jobs()[0][5], process, seconds=60)
    job, state, command, preset, name, update, *_ = cluster.jobs()[0]
    assert (state, command, preset, name) == ("running", "train", "my.yaml", "elastic")
    assert job.startswith("train-elastic-") and update.endswith(f"/{NUM_UPDATES}")

    cluster.workers[1].kill()
    had = len(cluster.records("elastic"))
    wait_until(lambda: cluster.records("elastic")[-1]["num_workers"] == 1, process)
    cluster.workers[1].start()
    cluster.workers[1].wait()
    wait_until(lambda: cluster.records("elastic")[-1]["num_workers"] == 2, process)
    done = finish(process)
    assert done.status == 0, done.out + done.err
    assert "bytes sent" in done.out and f"Finished {NUM_UPDATES} updates" in done.out
    assert "with 1 worker (had 2)." in done.out and "with 2 workers (had 1)." in done.out
    assert had and [r["update"] for r in cluster.records("elastic")] == list(range(1, NUM_UPDATES + 1))
    assert cluster.jobs()[0][5] == f"{NUM_UPDATES}/{NUM_UPDATES}"
    checked = finish(cluster.run("verify", str(cluster.storage / "elastic")))
    assert checked.status == 0 and f"update_{NUM_UPDATES:06d}" in checked.out, checked

    again = finish(train(cluster, "elastic", *LONG, "--workers", "1:2"))
    assert again.status == 0 and f"Finished {NUM_UPDATES} updates" in again.out, again
    assert "were there already" in again.out  # what it was sent with

    run = cluster.storage / "elastic"
    scored = finish(cluster.submit("--", "evaluate", str(run), "--metrics", "swd", "--num", "32", "--cpu"))
    assert scored.status == 0 and "numbers        " in scored.out, scored
    assert list((run / "evaluation").glob("*.json"))
    assert cluster.jobs()[0][2:5] == ["evaluate", str(run), "elastic"]


def test_a_sweep_on_two_hosts(cluster: Cluster):
    (cluster.laptop / "try.yaml").write_text(  # trials long enough that two run beside each other
        "base: my.yaml\nsettings: {learning.global_batch_size: 64, langevin.num_steps: 30}\n"
        "budget: {updates: 300, evaluations: 2, samples: 8}\nnum_trials: 4\n"
        "space: {langevin.step_size: {uniform: [0.5, 1.5]}}\n"
    )
    done = finish(cluster.submit("--", "tune", "try.yaml", "--storage-path", str(cluster.storage), "--cpu"))
    assert done.status == 0, done.out + done.err
    sweep = cluster.storage / "try"
    assert (sweep / "results.parquet").exists() and (sweep / "best.yaml").exists() and (sweep / "report.html").exists()
    hosts = {trial.read_text().split()[-1] for trial in (sweep / "trials").glob("*/lock")}
    assert hosts == {node.name for node in cluster.workers}
    assert cluster.jobs()[0][2:7] == ["tune", "try.yaml", "try", "4/4", "trials"]


def test_without_the_token_nothing_is_taken(cluster: Cluster):
    before = len(cluster.jobs())
    for token, said in ((None, "asks for a token, but there is none here"), ("wrong", "refuses the token")):
        process = cluster.submit("--", "train", "--storage-path", str(cluster.storage), token=token)
        done = finish(process)
        assert done.status == 2 and done.out == "" and done.err.count("\n") == 1 and said in done.err, done
    assert len(cluster.jobs()) == before


def test_ctrl_c_leaves_a_job_and_stop_saves_it(cluster: Cluster):
    process = train(cluster, "stopped", *LONG, "learning.num_updates=100000", "--workers", "2")
    wait_until(lambda: len(cluster.records("stopped")) > 4, process)
    process.send_signal(signal.SIGINT)
    left = finish(process)
    job = cluster.jobs()[0]
    assert left.status == 130 and f"`distmgcd jobs stop {job[0]}`" in left.err and job[1] == "running", left
    follower = cluster.run("jobs", "logs", "--follow", job[0])
    asked = finish(cluster.run("jobs", "stop", job[0]))
    assert asked.status == 0 and "it saves first" in asked.out, asked
    stopped = finish(follower)
    assert stopped.status == 143 and "and saved it" in stopped.out, stopped
    update = cluster.records("stopped")[-1]["update"]
    assert (cluster.storage / "stopped" / "checkpoints" / f"update_{update:06d}").exists()
    assert cluster.jobs()[0][1] == "stopped"


def test_what_cannot_work_is_said_before_training(cluster: Cluster):
    own = str(cluster.network.temporary / "runs")  # a folder that every host has to itself
    many = train(cluster, "many", "--workers", "4")
    private = cluster.submit("--", "train", "my.yaml", "--storage-path", own, "--name", "private", "--cpu")
    waits = train(cluster, "waits", "--workers", "4", options=("--wait-for-resources", "--no-wait"))
    done = finish(many)
    assert done.status == 2 and "the cluster has 2 CPUs on 2 nodes" in done.out, done
    assert "lower --workers, or give --wait-for-resources" in done.out
    done = finish(private)
    assert done.status == 2 and "On node " in done.out and "choose a folder that all nodes share" in done.out, done
    assert finish(waits).status == 0
    job = next(job[0] for job in cluster.jobs() if job[0].startswith("train-waits"))
    follower = cluster.run("jobs", "logs", "--follow", job)
    log = lambda: finish(cluster.run("jobs", "logs", job)).out  # noqa: E731
    wait_until(lambda: "Waiting for room for 4 workers with 1 CPU each: the cluster has 2 CPUs" in log(), follower)
    assert finish(cluster.run("jobs", "stop", job)).status == 0
    assert finish(follower).status == 143
    assert not cluster.records("many") and not cluster.records("waits")
