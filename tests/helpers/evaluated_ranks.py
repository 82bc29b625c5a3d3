"""What each of several processes does in a test of merging; a file is their meeting place, so no port can collide."""

from pathlib import Path

import torch
from torch import Tensor

from distmgcd.evaluation.distances.statistics import Collector, ImageStatistics, gather_rows, own_batches
from distmgcd.evaluation.features.networks import FeatureNetwork
from distmgcd.workers.collectives import LocalWorker, ProcessGroupWorker, Worker
from distmgcd.workers.end_rank import be_one_of_many

EVERYTHING = ("swd", "fd", "is", "nn")
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


def collected(worker: Worker, num: int = NUM) -> ImageStatistics:
    how = {"shape": SHAPE, "sizes": (2, 8), "network": NETWORK, "batch_size": BATCH, "rows_per_sum": BATCH}
    return Collector(metrics=EVERYTHING, worker=worker, **how).collect(image_of, num)


def alone(num: int = NUM) -> ImageStatistics:
    return collected(LocalWorker(torch.device("cpu")), num)


def run_rank(rank: int, num_ranks: int, folder: str) -> None:
    torch.set_num_threads(1)

    def work() -> None:
        worker = ProcessGroupWorker(torch.device("cpu"))
        few = gather_rows(torch.cat([torch.arange(0), *own_batches(3, 4, worker)]), worker)  # one worker has none
        found = {
            "few": few,
            "all": collected(worker),
            "of_one_batch": collected(worker, num=BATCH),
        }
        torch.save(found, Path(folder) / f"found{rank}")

    be_one_of_many(work, "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=num_ranks)
