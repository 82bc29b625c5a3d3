"""Two ranks learn what one learns: whole updates, sampling included, over gloo on this machine."""

import os
import time
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from small_models import BETAS, method, random_pixels, small_learner, small_model
from torch import Tensor

from distmgcd.core.langevin import run_chain
from distmgcd.core.learning import METRICS, Learner, learn
from distmgcd.core.parallel import overlap
from distmgcd.workers.collectives import ProcessGroupWorker
from distmgcd.workers.end_rank import be_one_of_many
from distmgcd.workers.watchdog import Watchdog

NUM_UPDATES = 3
NORMS = ("none", "layer", "spectral")
# How gradients are averaged: by DDP after all chains, each grid's beside the chains of the next, all in one message.
WAYS = ("after", "beside", "together")
FLIPPED = method(flip=True)


def train(learner: Learner, share: slice, weight: float = 1.0) -> dict[str, list[Tensor]]:
    """Learn from a share of the one batch; everything that should not depend on how many ranks there are."""
    pixels, indices = random_pixels(8, channels=3)
    batch = pixels[share], indices[share]
    metrics = [learn(learner, *batch, update, FLIPPED, weight=weight).metrics for update in range(NUM_UPDATES)]
    return {
        "gradients": [p.grad for p in learner.model.parameters()],
        "weights": [p.detach() for p in learner.model.parameters()],
        "buffers": list(learner.model.buffers()),
        "averaged": list(learner.ema.parameters()),
        "norms": [m[:, METRICS.index("gradient_norm")] for m in metrics],
    }


def run_rank(rank: int, num_ranks: int, folder: str) -> None:
    """What each process does. A file is the meeting place, so that no port can collide."""
    torch.set_num_threads(1)
    even, uneven = slice(4 * rank, 4 * rank + 4), slice(5 * rank, 5 + 3 * rank)

    def work() -> None:
        worker = ProcessGroupWorker(torch.device("cpu"))
        for way in WAYS:
            for norm in (*NORMS, "batch"):
                torch.save(train(learner_of(worker, way, norm), even), f"{folder}/{way}-{norm}{rank}.pt")
            weight = (uneven.stop - uneven.start) * num_ranks / 8
            torch.save(train(learner_of(worker, way), uneven, weight), f"{folder}/{way}-uneven{rank}.pt")
            learner = learner_of(worker, way)
            if rank == 1:
                learner.model.grids[0].network[0].weight.register_hook(lambda gradient: gradient * torch.nan)
            torch.save(train(learner, even), f"{folder}/{way}-bad{rank}.pt")
        get_stuck(worker, Path(folder))

    be_one_of_many(work, "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=num_ranks)


def learner_of(worker: ProcessGroupWorker, way: str, norm: str = "none") -> Learner:
    model = small_model(channels=3, norm=norm)
    if way == "after":
        return small_learner(model, worker.wrap(model))
    overlap.LEAST_BYTES = 0 if way == "beside" else 1 << 20
    return Learner(model, model, betas=BETAS, start_average=worker.start_average)


def get_stuck(worker: ProcessGroupWorker, folder: Path) -> None:
    """The second rank stays in its chains at grid 8, the average of grid 4 being on its way, until it is named."""
    verdict = folder / "verdict"

    class Stuck:
        @staticmethod
        def run_chain(energy, x, noise, langevin, fixed):
            while worker.rank == 1 and x.shape[-1] == 8 and not verdict.exists():
                time.sleep(0.01)
            return run_chain(energy, x, noise, langevin, fixed)

    watchdog = Watchdog(
        worker.control.activity, Board(folder), rank=worker.rank, world_size=2, limit=1.5, on_stuck=verdict.write_text
    )
    pixels, indices = random_pixels(8, channels=3)
    worker.control.activity.update(7)
    watchdog.start()
    learn(learner_of(worker, "beside"), pixels, indices, 0, method(executor=Stuck))
    watchdog.end()


class Board:
    """Files."""

    def __init__(self, folder: Path):
        self._folder = folder

    def post(self, rank: int, text: str) -> None:
        (self._folder / f"posting{rank}").write_text(text)
        os.replace(self._folder / f"posting{rank}", self._folder / f"beat{rank}")

    def read(self, rank: int) -> str | None:
        path = self._folder / f"beat{rank}"
        return path.read_text() if path.exists() else None


@pytest.fixture(scope="module")
def folder_of_two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(run_rank, args=(2, str(folder)), nprocs=2)
    return folder


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("norm", NORMS)
def test_two_ranks_learn_what_one_learns_from_the_whole_batch(folder_of_two_ranks: Path, norm: str, way: str):
    ranks = [torch.load(folder_of_two_ranks / f"{way}-{norm}{rank}.pt") for rank in range(2)]
    alone = train(small_learner(small_model(channels=3, norm=norm)), slice(0, 8))
    for name, expected in alone.items():
        assert all(map(torch.equal, ranks[0][name], ranks[1][name])), name
        torch.testing.assert_close(
            ranks[0][name], expected, rtol=1e-4, atol=2e-6, msg=lambda m, name=name: f"{name}: {m}"
        )


@pytest.mark.parametrize("way", WAYS[1:])
@pytest.mark.parametrize("case", [*NORMS, "batch", "uneven", "bad"])
def test_averages_beside_the_chains_are_those_of_ddp_bit_for_bit(folder_of_two_ranks: Path, case: str, way: str):
    after, beside = (torch.load(folder_of_two_ranks / f"{of}-{case}0.pt") for of in ("after", way))
    for name, expected in after.items():
        for ours, theirs in zip(beside[name], expected, strict=True):
            assert torch.equal(ours.nan_to_num(7.0), theirs.nan_to_num(7.0)), name
    assert torch.stack(beside["norms"]).isnan().any(0).tolist() == [case == "bad", False]


def test_a_rank_stuck_in_its_chains_is_named_though_averages_are_on_their_way(folder_of_two_ranks: Path):
    verdict = (folder_of_two_ranks / "verdict").read_text()
    assert verdict.startswith("Rank 1 (host ") and "has been stuck in update 7 for" in verdict
    assert "and so have ranks" not in verdict
