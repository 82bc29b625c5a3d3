"""How fast processes of this machine average a gradient: gloo on the CPU, nccl between its GPUs.

torchrun --nproc-per-node 2 -m distmgcd.bench.all_reduce BYTES        rank 0 prints seconds as JSON
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence

import torch
import torch.distributed as dist

from distmgcd.bench.timing import wait
from distmgcd.bench.update_time import Link
from distmgcd.workers.end_rank import be_one_of_many

_SMALL = 4  # bytes: all latency
_NUM_TIMES = 30


def measure_link(num_bytes: int, *, use_gpu: bool) -> Link:
    """From two processes that average so many bytes, and hardly any.

    With two workers m(D) = 2 L + D / R, so L is half of the small one's time.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **({} if use_gpu else {"CUDA_VISIBLE_DEVICES": ""})}
    done = subprocess.run(
        [*command, "-m", "distmgcd.bench.all_reduce", str(num_bytes)], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"Measuring the link failed:\n{done.stderr[-2000:]}")
    small, large = json.loads(done.stdout.splitlines()[-1])
    return Link(bytes_per_s=num_bytes / max(large - small, 1e-9), latency=small / 2)


def main(num_bytes: int) -> None:
    rank, on_gpu = int(os.environ["LOCAL_RANK"]), torch.cuda.is_available()
    device = torch.device("cuda", rank) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)

    def work() -> None:
        times = _least_seconds([_SMALL, num_bytes], device)
        if rank == 0:
            print(json.dumps(times))

    be_one_of_many(work, "nccl" if on_gpu else "gloo")


def _least_seconds(sizes: Sequence[int], device: torch.device) -> list[float]:
    """Of messages of so many bytes, sent in turn: whatever else the machine does can only add to what a link takes."""
    messages = [torch.zeros(max(1, num_bytes // 4), device=device) for num_bytes in sizes]
    times: list[list[float]] = [[] for _ in sizes]
    for _ in range(_NUM_TIMES):
        for values, taken in zip(messages, times, strict=True):
            dist.barrier()
            wait(device)
            start = time.perf_counter()
            dist.all_reduce(values)
            wait(device)
            taken.append(time.perf_counter() - start)
    return [min(taken) for taken in times]


if __name__ == "__main__":
    main(int(sys.argv[1]))
