"""SIGTERM and Ctrl-C to a sweep: its trials save where they are, it says so, and leaves nothing behind."""

import os
import signal
from pathlib import Path

import pytest
from ray_runs import wait_until
from sweep_runs import HEAD, finish_sweep, is_same_bit_for_bit, start_sweep, train_alone
from tiny_runs import records_of

from distmgcd.runs import checkpoint
from distmgcd.runs.store import Store

pytestmark = pytest.mark.slow

UPDATES = 1200  # the first trial must not end before the second has begun, also on a fast machine
TEXT = HEAD + (
    f"budget: {{updates: {UPDATES}, evaluations: 2, samples: 16}}\nsearch: grid\n"
    "space: {langevin.step_size: {grid: [0.5, 0.6, 0.7]}}\n"
)


def num_updates(trial: Path) -> int:
    log = trial / "log" / "metrics.jsonl"
    return log.read_text().count('"grids"') if log.exists() else 0


@pytest.mark.parametrize(("number", "status", "workers"), [(signal.SIGTERM, 143, 0), (signal.SIGINT, 130, 1)])
def test_a_signal_saves_the_trials_and_resume_goes_on(
    tmp_path: Path, number: signal.Signals, status: int, workers: int
):
    """To every process of the command, as a terminal does with Ctrl-C."""
    how = ("--concurrent", "2", "--workers-per-trial", str(workers))
    process = start_sweep(tmp_path, TEXT, *how)
    trials = tmp_path / "sweeps" / "try" / "trials"
    wait_until(lambda: min(num_updates(trials / f"trial_000{n}") for n in (1, 2)) > 20, process)
    os.killpg(process.pid, number) if number == signal.SIGINT else os.kill(process.pid, number)
    stopped = finish_sweep(process, tmp_path)
    assert (stopped.status, stopped.left) == (status, {}), stopped.err
    assert stopped.err == (
        "distmgcd: Stopped. 0 trials have ended, 2 under way were saved, and the same command with --resume goes on.\n"
    )
    assert "Stopping: 2 trials save where they are; a second signal ends the sweep at once." in stopped.out
    assert not (trials / "trial_0003").exists() and "2 stopped" in (stopped.folder / "report.html").read_text()
    saved = {}
    for name in ("trial_0001", "trial_0002"):
        assert stopped.trial_state(name)["state"] == "running"
        saved[name] = checkpoint.update_of(checkpoint.names(Store(str(trials / name)))[-1])
        assert saved[name] == num_updates(trials / name)  # nothing is done twice
    done = finish_sweep(start_sweep(tmp_path, TEXT, *how, "--resume"), tmp_path)
    assert (done.status, done.left) == (0, {}), done.err
    assert "Trials kept that have ended before: 0; that go on: 2." in done.out
    assert "3 trials: 3 finished." in done.out
    assert [r["update"] for r in records_of(trials, "trial_0001") if "grids" in r] == list(range(1, UPDATES + 1))
    train_alone(trials / "trial_0001", tmp_path)
    assert is_same_bit_for_bit(trials / "trial_0001", tmp_path / "alone")


def test_a_second_signal_ends_the_sweep_at_once(tmp_path: Path):
    process = start_sweep(tmp_path, TEXT.replace("num_steps: 10", "num_steps: 5000"), "--concurrent", "1")
    log = tmp_path / "sweeps" / "try" / "trials" / "trial_0001" / "log"
    wait_until(log.exists, process)
    os.kill(process.pid, signal.SIGTERM)
    while "a second signal ends the sweep at once" not in process.stdout.readline():
        assert process.poll() is None
    os.kill(process.pid, signal.SIGTERM)
    stopped = finish_sweep(process, tmp_path)
    assert (stopped.status, stopped.left) == (143, {})
    assert "Stopped at once. The same command with --resume goes on" in stopped.err and "Traceback" not in stopped.err
