"""The environment of this process: CPUs that it may use, the home folder, and a running Ray to join."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from distmgcd.errors import UserError


def usable_cpus() -> int:
    """CPUs that this process may use, at least 1.

    A machine often has more: taskset and Slurm bind a process to some of them, a container's quota allows the time of
    some. Of a quota of 2.5 CPUs it is 2, as Ray counts, for workers that share the third would wait for each other.
    """
    bound_to = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min(bound_to, cpus_of_cgroup())))


def cpus_of_cgroup(root: Path = Path("/")) -> float:
    """The quota of this process's control group or of one around it, in CPUs; infinite where there is none.

    root: of the file system. Reads cgroup v2 (cpu.max) and v1 (cpu.cfs_quota_us).
    """
    return min((quota for folder in _cgroup_folders(root) if (quota := _quota_of(folder)) > 0), default=float("inf"))


def _cgroup_folders(root: Path) -> Iterator[Path]:
    """Of the group and those around it. A container sees its own group at the top, whatever /proc calls it."""
    mounted = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        tops = [mounted / "cpu", mounted / "cpu,cpuacct"] if "cpu" in controllers.split(",") else []
        for top in tops if controllers else [mounted]:
            inside = PurePosixPath(group.lstrip("/"))
            yield from (top / part for part in (inside, *inside.parents))


def _quota_of(folder: Path) -> float:
    """0 where there is none."""
    words = _read(folder / "cpu.max").split() or [
        *_read(folder / "cpu.cfs_quota_us").split(),
        *_read(folder / "cpu.cfs_period_us").split(),
    ]
    try:
        quota, period = map(int, words)
    except ValueError:  # "max", or no file
        return 0.0
    return quota / period if quota > 0 and period > 0 else 0.0


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""


def threads_asked_for() -> int | None:
    """What OMP_NUM_THREADS says of a process; None where it is not set. Raises UserError."""
    if not (text := os.environ.get("OMP_NUM_THREADS", "").strip()):
        return None
    first = text.partition(",")[0].strip()  # a list is for nested regions, which torch has none of
    if not first.isdecimal() or int(first) < 1:
        raise UserError(
            f"OMP_NUM_THREADS must be a whole number of at least 1, but is {text!r}; leave it out for the default."
        )
    return int(first)


def absolute(path: str) -> Path:
    """A local path, absolute and with ~ replaced. Raises UserError where the system knows no home, or no folder."""
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError:
        raise UserError(
            f"{path} begins with ~, but this user has no home folder (HOME is not set, and the system has no entry "
            "for the user); set HOME, or give the whole path."
        ) from None
    except FileNotFoundError:
        raise UserError(
            f"{path} is meant from the current folder, which has been deleted; change to another one with cd, or "
            "give the whole path."
        ) from None


def ray_address() -> str | None:
    """The cluster that RAY_ADDRESS names, HOST:PORT or auto; None for a Ray of our own. Raises UserError."""
    address = os.environ.get("RAY_ADDRESS", "").strip()
    if address in ("", "local"):
        return None
    rule = f"RAY_ADDRESS must be HOST:PORT of the head of a cluster, such as 10.0.0.1:6379, or auto, but is {address!r}"
    alone = "unset RAY_ADDRESS to run on this machine alone"
    if address.startswith(("http://", "https://")):
        raise UserError(
            f"{rule}, the address of a dashboard; send the command there with `distmgcd submit --address {address} -- "
            f"train ...`, or {alone}."
        )
    if "://" in address:
        raise UserError(
            f"{rule}, an address for Ray Client, through which no training can be led; run on a node of the cluster, "
            f"send the command there with `distmgcd submit`, or {alone}."
        )
    host, _, port = address.rpartition(":")
    if address != "auto" and not (host and port.isdecimal() and 0 < int(port) < 65_536):
        raise UserError(f"{rule}; correct it, or {alone}.")
    return address


def joins_ray() -> bool:
    """Whether a Ray is there that is not ours: a cluster's, or one that this process has started (a notebook)."""
    ray = sys.modules.get("ray")  # not imported for this: who has not, has started none
    return ray_address() is not None or (ray is not None and ray.is_initialized())
