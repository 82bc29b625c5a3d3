"""Two ranks learn what one learns: whole updates, sampling included, over gloo on this machine."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from small_models import method, random_pixels, small_learner, small_model
from torch import Tensor

from distmgcd.core.learning import METRICS, Learner, learn
from distmgcd.training.worker import ProcessGroupWorker

NUM_UPDATES = 3
NORMS = ("none", "layer", "spectral")
FLIPPED = method(flip=True)


def train(learner: Learner, share: slice) -> dict[str, list[Tensor]]:
    """Learn from a share of the one batch; everything that should not depend on how many ranks there are."""
    pixels, indices = random_pixels(8, channels=3)
    metrics = [learn(learner, pixels[share], indices[share], update, FLIPPED).metrics for update in range(NUM_UPDATES)]
    return {
        "gradients": [p.grad for p in learner.model.parameters()],
        "weights": [p.detach() for p in learner.model.parameters()],
        "averaged": list(learner.ema.parameters()),
        "norms": [m[:, METRICS.index("gradient_norm")] for m in metrics],
    }


def run_rank(rank: int, num_ranks: int, folder: str) -> None:
    """What each process does. A file is the meeting place, so that no port can collide."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=num_ranks)
    share = slice(rank * 8 // num_ranks, (rank + 1) * 8 // num_ranks)
    try:
        for norm in NORMS:
            model = small_model(channels=3, norm=norm)
            wrapped = ProcessGroupWorker(torch.device("cpu")).wrap(model)
            torch.save(train(small_learner(model, wrapped), share), f"{folder}/{norm}{rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder_of_two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(run_rank, args=(2, str(folder)), nprocs=2)
    return folder


@pytest.mark.parametrize("norm", NORMS)
def test_two_ranks_learn_what_one_learns_from_the_whole_batch(folder_of_two_ranks: Path, norm: str):
    ranks = [torch.load(folder_of_two_ranks / f"{norm}{rank}.pt") for rank in range(2)]
    alone = train(small_learner(small_model(channels=3, norm=norm)), slice(0, 8))
    for name, expected in alone.items():
        assert all(map(torch.equal, ranks[0][name], ranks[1][name])), name
        torch.testing.assert_close(
            ranks[0][name], expected, rtol=1e-4, atol=2e-6, msg=lambda m, name=name: f"{name}: {m}"
        )
