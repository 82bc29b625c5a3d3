"""What a checkpoint costs the loop: a save that is waited for, against a snapshot that is written in the background.

python tests/measurements/pause_of_a_checkpoint.py FOLDER [PRESET]     in turns, ten of each after one to warm up
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable

import torch

from distmgcd.config import load_config
from distmgcd.core.learning import Learner
from distmgcd.core.synthesis import StartDistribution
from distmgcd.models.assemble import make_learner
from distmgcd.runs import learner_state
from distmgcd.runs.checkpoint import Progress
from distmgcd.runs.saving import Background
from distmgcd.runs.store import Store
from distmgcd.workers.collectives import LocalWorker


def learner_of(preset: str) -> Learner:
    """After one step, so that Adam has its two moments."""
    learner = make_learner(load_config(preset), LocalWorker(torch.device("cpu")))
    for optimizer in learner.optimizers:
        for parameter in optimizer.param_groups[0]["params"]:
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
    return learner


def seconds_of(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main(folder: str, preset: str = "paper64") -> None:
    torch.set_num_threads(1)
    learner, starts = learner_of(preset), StartDistribution.of(torch.rand(1000, 3) * 255)
    store, background = Store(folder), Background()
    waited, paused, written = [], [], []

    def submit() -> None:
        snapshot = learner_state.snapshot(learner, starts, Progress(update=2))
        background.submit(lambda: learner_state.write(store, snapshot))

    for _ in range(11):
        waited.append(seconds_of(lambda: learner_state.save(store, learner, starts, Progress(update=1))))
        paused.append(seconds_of(submit))
        written.append(background.take(wait=True).seconds)
    print(f"{sum(info.size for info in store.files('checkpoints/update_000002')) / 1e6:.0f} MB")
    for name, values in (("pause, waiting", waited), ("pause, in the background", paused), ("its write", written)):
        ms = [1000 * value for value in values[1:]]
        print(f"{name}: median {statistics.median(ms):.0f} ms, {min(ms):.0f} to {max(ms):.0f}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=sys.argv[1]) as place:
        main(place, *sys.argv[2:])
