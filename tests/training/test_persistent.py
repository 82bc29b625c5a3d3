"""Persistent chains in a whole run: they go on, survive a restart, and are replayed."""

from pathlib import Path

import pytest
import torch
from tiny_runs import Stopped, debug, state_of, stop_after

import distmgcd
from distmgcd.runs.checkpoint import CHAINS_FILE
from distmgcd.runs.checkpoint import newest as newest_checkpoint
from distmgcd.runs.run_folder import Run
from distmgcd.training import loop

# 43 images, so 5 updates an epoch: every image is visited two or three times.
CHANGES = (
    "start.kind=persistent",
    "start.renewed=0.3",
    "data.validation=0.97",
    "learning.num_updates=12",
    "checkpoint.keep=20",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("persistent")
    debug(folder, *CHANGES)
    return folder


def chains_of(folder: Path) -> dict[str, torch.Tensor]:
    return newest_checkpoint(Run.open(str(folder / "run")).store).chains()


def test_a_checkpoint_holds_the_chain_of_every_image_that_was_visited(run: Path):
    chains = chains_of(run)
    assert chains["ends"].shape == (43, 2 * 2 + 8 * 8) and chains["walked"].sum() >= 40
    assert chains["ends"][chains["walked"] == 0].abs().sum() == 0
    assert chains["ends"].abs().max() <= 1  # clamped at the end of a chain


def test_a_run_that_was_cut_ends_with_the_same_weights_and_chains(run: Path, tmp_path: Path):
    with pytest.raises(Stopped):
        debug(tmp_path, *CHANGES, show=stop_after(7))
    debug(tmp_path, *CHANGES)
    ours, theirs = state_of(tmp_path) | chains_of(tmp_path), state_of(run) | chains_of(run)
    assert not [name for name, value in theirs.items() if not torch.equal(ours[name], value)]


def test_chains_of_a_second_visit_go_on_so_the_run_is_another_than_without(run: Path, tmp_path: Path):
    debug(tmp_path, *CHANGES[2:])
    name = "model/grids.1.network.0.weight"
    for update, same in (("update_000004", True), ("update_000012", False)):
        ours, theirs = (state_of(folder, checkpoint_name=update)[name] for folder in (tmp_path, run))
        assert torch.equal(ours, theirs) == same


def test_a_replay_walks_the_chains_on_from_where_they_were(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen = {}
    learn = loop.learn

    def kept(learner, pixels, indices, update, *args, **how):
        learned = learn(learner, pixels, indices, update, *args, **how)
        seen[update + 1] = (indices.tolist(), learned.synthesised)
        return learned

    monkeypatch.setattr(loop, "learn", kept)
    debug(tmp_path, *CHANGES)
    indices, synthesised = seen[10]
    found = distmgcd.replay(str(tmp_path / "run"), update=10, images=indices)
    for grid, images in zip(found.grids, synthesised, strict=True):
        assert torch.equal(grid.pictures[-1], images)


def test_a_run_that_diverges_takes_its_chains_back_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    found, roll_back = [], loop.roll_back

    def watched(training, event):
        roll_back(training, event)
        found.append((training.progress.update, training.chains.state()["walked"].sum().item()))

    monkeypatch.setattr(loop, "roll_back", watched)
    learn, struck = loop.learn, []

    def learn_struck(learner, pixels, indices, update, *args, **how):
        if update == 4 and not struck:
            struck.append(update)
            with torch.no_grad():
                next(learner.model.parameters()).fill_(float("nan"))
        return learn(learner, pixels, indices, update, *args, **how)

    monkeypatch.setattr(loop, "learn", learn_struck)
    debug(tmp_path, *CHANGES)
    assert found == [(4, 32)]
    assert CHAINS_FILE in newest_checkpoint(Run.open(str(tmp_path / "run")).store).files
