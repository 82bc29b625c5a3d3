"""What each of two processes does for test_replay: the loop, and the ends of the chains it walked."""

from pathlib import Path

import torch
from captured import captured_ends

from distmgcd.runs.run_folder import Run
from distmgcd.training import loop
from distmgcd.workers.collectives import ProcessGroupWorker
from distmgcd.workers.end_rank import be_one_of_many


def run_rank(rank: int, num_ranks: int, folder: str, names: tuple[str, ...]) -> None:
    torch.set_num_threads(1)

    def work() -> None:
        for name in names:
            run = Run.open(f"{folder}/{name}")
            with captured_ends() as ends:
                loop.train(run.config(), ProcessGroupWorker(torch.device("cpu")), run)
            torch.save(ends, Path(folder) / f"{name}.{rank}.pt")

    be_one_of_many(work, "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=num_ranks)
