"""Images read ahead: the same images, in the same order, wherever the run goes."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_runs import debug, records_of, state_of

from distmgcd.training import state
from distmgcd.training.feed import Feed

CPU = torch.device("cpu")


def some_images(num: int = 20) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (num, 3, 4, 4), dtype=np.uint8)


def test_a_batch_has_the_images_that_were_asked_for():
    images, indices = some_images(), torch.tensor([7, 0, 19])
    pixels, found = Feed(images, CPU).read(indices)
    assert torch.equal(pixels, torch.from_numpy(images)[indices]) and torch.equal(found, indices)
    assert pixels.dtype == torch.uint8


@pytest.mark.parametrize("ahead", [True, False])
def test_what_was_read_ahead_serves_the_batch_that_it_is_of_and_no_other(ahead: bool):
    images = some_images()
    feed, first, second = Feed(images, CPU, ahead=ahead), torch.tensor([1, 2]), torch.tensor([3, 4])
    before = torch.from_numpy(images.copy())
    feed.read_ahead(first)
    images[:] = 255 - images  # only what is read from now on can see it
    after = torch.from_numpy(images)
    assert torch.equal(feed.read(first).pixels, (before if ahead else after)[first])
    assert torch.equal(feed.read(first).pixels, after[first])  # it serves once
    feed.read_ahead(first)
    assert torch.equal(feed.read(second).pixels, after[second])
    assert torch.equal(feed.read(first).pixels, after[first])


def test_a_cpu_reads_nothing_ahead():
    images, indices = some_images(), torch.tensor([1, 2])
    feed = Feed(images, CPU)
    feed.read_ahead(indices)
    images[:] = 9
    assert feed.read(indices).pixels.eq(9).all()


class Counting(Feed):
    served_ahead = 0

    def read(self, indices):
        Counting.served_ahead += self._next is not None and torch.equal(self._next[0], indices)
        return super().read(indices)


def test_a_run_that_reads_ahead_and_goes_back_is_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    wild = ("learning.learning_rate=[1e-3, 100]", "watch.rate_after_retry=1e-4", "watch.max_gap=3")
    debug(tmp_path, *wild, name="plain")
    monkeypatch.setattr(state, "Feed", partial(Counting, ahead=True))
    debug(tmp_path, *wild, name="ahead")
    ours, theirs = state_of(tmp_path, "ahead"), state_of(tmp_path, "plain")
    assert not [name for name, value in theirs.items() if not torch.equal(ours[name], value)]
    (event,) = [record for record in records_of(tmp_path, "ahead") if "event" in record]
    updates = len([record for record in records_of(tmp_path, "ahead") if "grids" in record])
    assert "Going back" in event["event"] and Counting.served_ahead == updates - 2  # all but the two first ones


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA GPU on this machine")
def test_a_gpu_gets_its_images_in_order_and_the_host_waits_for_nothing():
    images, device = some_images(1000), torch.device("cuda")
    feed, batches = Feed(images, device), torch.randperm(1000).view(20, 50)
    busy, sums = torch.rand(2000, 2000, device=device), []
    torch.cuda.set_sync_debug_mode("error")
    try:
        for now, following in zip(batches, batches.roll(-1, 0), strict=True):
            pixels, indices = feed.read(now)
            for _ in range(5):
                busy = (busy @ busy).tanh()  # the device is behind the host
            sums.append((pixels.double().sum(), indices.sum()))
            feed.read_ahead(following)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for (pixels, indices), batch in zip(sums, batches, strict=True):
        assert pixels.item() == images[batch.numpy()].sum(dtype=np.float64) and indices.item() == batch.sum()
