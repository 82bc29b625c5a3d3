"""How many Ray workers a run may have: one number, or from a few to many."""

import re
from collections.abc import Sequence

from distmgcd.errors import UserError

NumWorkers = int | tuple[int, int]  # exactly so many, or from the first to the second as nodes come and go


def parse_workers(text: str) -> NumWorkers:
    """ "4" is 4, "2:8" is (2, 8). Raises UserError."""
    if not (found := re.fullmatch(r"(-?\d+)(?::(-?\d+))?", text.strip())):
        raise UserError(
            f"--workers must be a number such as 4 or a range such as 2:8, but is {text!r}; `distmgcd debug` trains "
            "without workers."
        )
    return check_workers(int(found[1]) if found[2] is None else (int(found[1]), int(found[2])))


def check_workers(num_workers: NumWorkers) -> NumWorkers:
    """Raises UserError for less than one worker and for a range that holds no number."""
    least, most = bounds(num_workers)
    if least < 1:
        raise UserError(f"--workers must be at least 1, but is {least}; `distmgcd debug` trains in this process.")
    if most < least:
        raise UserError(f"--workers must go from few to many, but is {least}:{most}; try --workers {most}:{least}.")
    return num_workers


def cpus_for_each(num_workers: int, node_cpus: Sequence[int]) -> int:
    """CPUs for each of so many workers such that every node can hold its share of them; at least 1.

    node_cpus: of every node; those without CPUs, as the head of a cluster may be, hold no worker.
    """
    usable = [cpus for cpus in node_cpus if cpus > 0] or [1]
    return max(1, min(usable) // -(-num_workers // len(usable)))


def bounds(num_workers: NumWorkers) -> tuple[int, int]:
    """The least and the most workers."""
    return num_workers if isinstance(num_workers, tuple) else (num_workers, num_workers)
