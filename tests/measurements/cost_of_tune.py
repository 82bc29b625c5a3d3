"""What a sweep costs beside the same trials run by hand; not a test.

    python tests/measurements/cost_of_tune.py [ROUNDS] [UPDATES]

In every round, one after the other: four trials of digits as a sweep, two at a time, and the configs of these very
trials by two loops of `distmgcd debug`, a process each, beside each other. Prints wall times, trials an hour, when the
first update of the first trial was done, and memory (proportional set size), with the load of the machine before each.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from ray_runs import COMMAND, session

NUM_TRIALS, CONCURRENT = 4, 2
TEXT = """\
base: digits
settings: {{learning.warmup: 10, log.every: 1}}
budget: {{updates: {updates}, evaluations: 2, samples: 300}}
num_trials: 4
space: {{langevin.temperature: {{loguniform: [3.0e-4, 4.0e-4]}}}}
"""


class Memory(threading.Thread):
    """The largest sums of proportional set sizes, in MB, of a session's processes, by what they are."""

    def __init__(self, leader: int):
        super().__init__(daemon=True)
        self.leader, self.most, self.ended = leader, {}, threading.Event()

    def run(self) -> None:
        while not self.ended.wait(2.0):
            found: dict[str, list[float]] = {}
            for pid, line in session(self.leader):
                found.setdefault(_kind(line), []).append(_pss(pid))
            for kind, sizes in found.items():
                self.most[kind] = max(self.most.get(kind, [0.0]), sizes, key=sum)


def _kind(line: str) -> str:
    if line.startswith("ray::ImplicitFunc") or line.startswith("ray::run_trial"):
        return "trial"
    return "command" if "distmgcd" in line.split(" -", 1)[0] or "/distmgcd" in line else "Ray's own"


def _pss(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1000


def run(folder: Path, commands: list[list[str]], first_log: Path) -> dict[str, Any]:
    """Wall time of commands that run beside each other, first update and memory."""
    load, start, first = os.getloadavg()[0], time.monotonic(), None
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_A")}
    shell = " & ".join(" && ".join(part) for part in commands) + " & wait"
    process = subprocess.Popen(
        ["bash", "-c", shell], cwd=folder, env=environment, stdout=subprocess.DEVNULL, start_new_session=True
    )
    (memory := Memory(process.pid)).start()
    while process.poll() is None:
        if first is None and first_log.exists() and first_log.read_text().count('"grids"'):
            first = time.monotonic() - start
        time.sleep(0.05)
    wall = time.monotonic() - start
    memory.ended.set()
    return {"wall_s": wall, "trials_per_h": 3600 * NUM_TRIALS / wall, "first_update_s": first, "load": load} | {
        f"MB of {kind}": [round(size) for size in sizes] for kind, sizes in sorted(memory.most.items())
    }


def main() -> None:
    rounds, updates = (int(a) for a in (sys.argv[1:] + ["2", "150"][len(sys.argv) - 1 :]))
    for number in range(rounds):
        folder = Path(tempfile.mkdtemp(prefix="cost-"))
        (folder / "try.yaml").write_text(TEXT.format(updates=updates))
        trials = folder / "sweeps" / "try" / "trials"
        swept = run(
            folder,
            [[f"{COMMAND} tune try.yaml --concurrent {CONCURRENT} --cpu"]],
            trials / "trial_0001/log/metrics.jsonl",
        )
        seconds = [json.loads((trials / f"trial_000{n}/result.json").read_text())["seconds"] for n in (1, 2, 3, 4)]
        loops = [
            [f"{COMMAND} debug {trials}/trial_000{n}/config.yaml --cpu --name hand{n}" for n in part]
            for part in ((1, 3), (2, 4))
        ]
        by_hand = run(folder, loops, folder / "runs/hand1/log/metrics.jsonl")
        alone = [json.loads((folder / f"runs/hand{n}/result.json").read_text())["seconds"] for n in (1, 2, 3, 4)]
        print(f"round {number + 1}: tune    {_said(swept)}  training {_said(seconds)}")
        print(f"round {number + 1}: by hand {_said(by_hand)}  training {_said(alone)}")
        print(
            f"round {number + 1}: tune takes {swept['wall_s'] / by_hand['wall_s']:.3f} of the time by hand", flush=True
        )


def _said(value: Any) -> str:
    if isinstance(value, dict):
        return "  ".join(f"{key} {_said(item)}" for key, item in value.items() if item is not None)
    return f"{value:.1f}" if isinstance(value, float) else str([round(item, 1) for item in value])


if __name__ == "__main__":
    main()
