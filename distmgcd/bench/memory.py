"""The most memory that an update takes, measured in a process of its own: what ran before it would count otherwise.

python -m distmgcd.bench.memory DEVICE < CONFIG.yaml        prints the figures as JSON
"""

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from distmgcd.bench.updates import Batch, training_pixels
from distmgcd.config import Config, load_config, to_yaml
from distmgcd.core.learning import learn
from distmgcd.models.assemble import make_learner, make_method
from distmgcd.workers.collectives import LocalWorker


def bench_memory(config: Config, device: torch.device) -> dict[str, int]:
    """Bytes: before there is a model, the most during two updates, and what of that the device's allocator holds."""
    done = subprocess.run(
        [sys.executable, "-m", "distmgcd.bench.memory", str(device)],
        input=to_yaml(config),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"Measuring memory failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def of_two_updates(config: Config, device: torch.device) -> dict[str, int]:
    before = most_resident()
    batch = Batch(config, training_pixels(config)[0], device)
    learner, method = make_learner(config, LocalWorker(device)), make_method(config)
    for update in range(2):  # the optimiser's state comes with the first
        learn(learner, batch.pixels, batch.indices, update, method)
    figures = {"imports_bytes": before, "peak_resident_bytes": most_resident()}
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        figures["peak_device_bytes"] = torch.cuda.max_memory_allocated(device)
        figures["peak_device_reserved_bytes"] = torch.cuda.max_memory_reserved(device)
    return figures


def most_resident() -> int:
    """Bytes of memory that this process has had at most. getrusage on Linux would count its parent's, too."""
    try:
        status = Path("/proc/self/status").read_text()
        return next(1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else 1024 * most


def main(device: str) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(sys.stdin.read())
        file.flush()
        config = load_config(file.name)
    print(json.dumps(of_two_updates(config, torch.device(device))))


if __name__ == "__main__":
    main(sys.argv[1])
