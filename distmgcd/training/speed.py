"""How a run executes its chains on this machine: decided as the loop begins, logged, and kept in checkpoints.

{"device": "cpu", "execution": "traced", "precision": "bf16", "threads": 1, "workers": 2}
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from distmgcd.config import Config
from distmgcd.models.assemble import speed_of
from distmgcd.runs import checkpoint
from distmgcd.runs.checkpoint import Checkpoint
from distmgcd.runs.read_log import read_log
from distmgcd.runs.run_folder import Run
from distmgcd.workers.collectives import Worker

SpeedInUse = Mapping[str, Any]


def speed_in_use(config: Config, worker: Worker) -> SpeedInUse:
    """What speed.* comes to on this worker's device; the same in all workers where their machines are of one kind."""
    device, speed = worker.device, speed_of(config).on(worker.device)
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "execution": speed.execution,
        "precision": speed.precision,
        "threads": torch.get_num_threads(),
        "workers": worker.world_size,
    }


def first_line(speed: SpeedInUse) -> str:
    """What a run says of it as its loop begins, in less than 80 columns on a CPU."""
    workers, threads = (_counted(speed[what], what) for what in ("workers", "threads"))
    of_cpu = f", {threads}{' each' if speed['workers'] > 1 else ''}" if speed["device"] == "cpu" else ""
    how = f"{speed['execution']} execution, chains in {speed['precision']}{of_cpu}"
    return f"Training on {workers}: {speed['device']}, {how}."


def change_of_speed(found: Checkpoint, now: SpeedInUse, run: Run) -> str | None:
    """What a run says whose checkpoint was made by another device, execution or precision; None if by this one."""
    before = found.speed or _of_older_version(run)
    changed = [key for key in ("device", "execution", "precision") if before.get(key, now[key]) != now[key]]
    if not changed:
        return None
    had, has = (", ".join(str(speed[key]) for key in changed) for speed in (before, now))
    return (
        f"Up to update {found.progress.update} this run used {had}; here it uses {has}. It goes on, equal up to "
        "rounding, not bit for bit."
    )


def with_speed_of_run(
    config: Config, run: Run, *, update: int, device: torch.device, report: Callable[[str], None]
) -> Config:
    """The config with the execution and precision with which the run executed the chains of an update (from 1).

    Its log says so, or else its newest checkpoint. An older version wrote neither: then as the config has it on this
    device, and if that depends on the device, report is called with a sentence that says so.
    """
    used = speed_at(run, update)
    if not used and config.speed.precision == "auto":
        here = speed_of(config).on(device).precision
        report(
            f"The run does not say in which precision it ran its chains, as an older version made it; they are "
            f"run in {here}, which is auto here."
        )
    speed = {key: used[key] for key in ("execution", "precision") if key in used}
    return config.model_copy(update={"speed": config.speed.model_copy(update=speed)})


def speed_at(run: Run, update: int) -> SpeedInUse:
    """What the run used at an update, from 1; {} if it does not say."""
    logged = [(record["update"], record["speed"]) for record in read_log(run.store) if "speed" in record]
    if before := [speed for done, speed in logged if done < update]:
        return before[-1]
    newest = checkpoint.newest(run.store, warn=lambda _: None)
    if newest is None:
        return {}
    # A log that says it only of later updates is of a run that an older version began and this one went on with.
    return (None if logged else newest.speed) or _of_older_version(run)


def _of_older_version(run: Run) -> SpeedInUse:
    """Where nothing says it: plain execution was in fp32 then. The run's own config, as debug puts plain for auto."""
    return {"precision": "fp32"} if run.config().speed.execution == "plain" else {}


def _counted(number: int, what: str) -> str:
    return f"{number} {what if number != 1 else what.removesuffix('s')}"
