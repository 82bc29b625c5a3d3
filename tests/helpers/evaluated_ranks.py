"""What each of several processes does in a test of merging; a file is their meeting place, so no port can collide."""

from pathlib import Path

import torch
from torch import Tensor

from distmgcd.evaluation.distances.collect import Collected, Wanted, collect
from distmgcd.evaluation.features.networks import FeatureNetwork
from distmgcd.evaluation.merge import from_first, in_order, own_batches, summed
from distmgcd.workers.collectives import LocalWorker, ProcessGroupWorker, Worker
from distmgcd.workers.end_rank import be_one_of_many

EVERYTHING = Wanted(projections=True, moments=True, features=True, classes=True, pixels=True)
NUM, BATCH, SHAPE = 45, 4, (1, 8, 8)


def image_of(numbers: Tensor) -> Tensor:
    """A picture of each number's own."""
    pictures = [
        torch.randint(0, 256, SHAPE, dtype=torch.uint8, generator=torch.Generator().manual_seed(int(number)))
        for number in numbers
    ]
    return torch.stack(pictures)


def features_of(pixels: Tensor) -> tuple[Tensor, Tensor]:
    features = (pixels.float() / 128 - 1).flatten(1)
    return features, 3 * features[:, :5]


NETWORK = FeatureNetwork("tiny", "Tiny", "none", "none", features_of)


def collected(worker: Worker, num: int = NUM) -> Collected:
    return collect(
        image_of,
        num,
        EVERYTHING,
        shape=SHAPE,
        sizes=(2, 8),
        network=NETWORK,
        batch_size=BATCH,
        worker=worker,
    )


def alone(num: int = NUM) -> Collected:
    return collected(LocalWorker(torch.device("cpu")), num)


def run_rank(rank: int, num_ranks: int, folder: str) -> None:
    torch.set_num_threads(1)

    def work() -> None:
        worker = ProcessGroupWorker(torch.device("cpu"))
        few = in_order(torch.cat([torch.arange(0), *own_batches(3, 4, worker)]), worker)  # one worker has none
        found = {
            "few": few,
            "sum": summed(torch.tensor([rank + 1.5], dtype=torch.float64), worker),
            "first": from_first(torch.tensor([7]) if rank == 0 else None, worker),
            "all": collected(worker),
            "of_one_batch": collected(worker, num=BATCH),
        }
        torch.save(found, Path(folder) / f"found{rank}")

    be_one_of_many(work, "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=num_ranks)
