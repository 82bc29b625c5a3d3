"""One rank of a run under torchrun: the same loop as under Ray, for a machine without it and for measurements.

    torchrun --nproc-per-node 2 -m distmgcd.training.torchrun RUN

RUN is the folder of a run that has its config.yaml. A rank uses the GPU of its local number where torch sees so many.
"""

import os
import sys

import torch

from distmgcd.runs.run_folder import Run
from distmgcd.training.loop import train
from distmgcd.workers.collectives import ProcessGroupWorker
from distmgcd.workers.end_rank import be_one_of_many


def main(path: str) -> None:
    local_rank = int(os.environ["LOCAL_RANK"])
    use_gpu = torch.cuda.device_count() >= int(os.environ["LOCAL_WORLD_SIZE"])
    device = torch.device("cuda", local_rank) if use_gpu else torch.device("cpu")
    if use_gpu:
        torch.cuda.set_device(device)

    def work() -> None:
        run = Run.open(path)
        train(run.config(), ProcessGroupWorker(device), run)

    be_one_of_many(work, "nccl" if use_gpu else "gloo")


if __name__ == "__main__":
    main(sys.argv[1])
