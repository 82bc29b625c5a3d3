"""A stopwatch that waits for the device, and a comparison in rounds that is fair to all tasks."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypedDict

import torch

NUM_ROUNDS = 13
SECONDS_EACH = 0.2  # of every contender in every round, by repeating short calls
_SECONDS_IN_ALL = 120.0  # of one comparison: slow calls get fewer rounds
_LEAST_ROUNDS = 3

Task = Callable[[], Any]


class Contender(NamedTuple):
    """Something that is timed beside others."""

    kind: str  # ours, textbook or peer
    task: Task
    precision: str = "fp32"  # of the network: fp32, tf32 or bf16


class Rate(TypedDict):
    """Amount per second, over rounds."""

    median: float
    slowest: float
    fastest: float


def seconds(task: Task, device: torch.device) -> float:
    """The time of one call, until the device has finished."""
    wait(device)
    start = time.perf_counter()
    task()
    wait(device)
    return time.perf_counter() - start


def wait(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def in_turn(tasks: Mapping[str, Task], device: torch.device) -> dict[str, list[float]]:
    """{name: seconds of one call in every round}.

    Every task runs in every round, so that a machine whose speed drifts slows all of them down. Each round begins with
    the next task, so that no task always follows the same one. A first call of each, which may compile, is not counted.
    """
    for task in tasks.values():
        task()
    single = {name: seconds(task, device) for name, task in tasks.items()}
    repeats = {name: max(1, round(SECONDS_EACH / once)) for name, once in single.items()}
    of_a_round = sum(single[name] * repeats[name] for name in tasks)
    num_rounds = max(_LEAST_ROUNDS, min(NUM_ROUNDS, int(_SECONDS_IN_ALL / of_a_round)))
    names, times = list(tasks), {name: [] for name in tasks}
    for number in range(num_rounds):
        for name in _turned(names, number):
            task, count = tasks[name], repeats[name]
            once = seconds(lambda task=task, count=count: [task() for _ in range(count)], device) / count
            times[name].append(once)
    return times


def rates(amount: float, times: Sequence[float]) -> Rate:
    """Amount per second in the median round, the slowest and the fastest."""
    return {
        "median": amount / statistics.median(times),
        "slowest": amount / max(times),
        "fastest": amount / min(times),
    }


def times_as_fast(times: Sequence[float], than: Sequence[float]) -> float:
    """The median over rounds of how many times as fast the first is as the second."""
    return statistics.median(slow / fast for fast, slow in zip(times, than, strict=True))


def _turned(names: list[str], by: int) -> list[str]:
    by %= len(names)
    return names[by:] + names[:by]
