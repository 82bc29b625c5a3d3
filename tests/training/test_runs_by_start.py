"""Every start of the chains in a whole run: it goes on after a cut, is replayed, sampled and searched."""

import json
from pathlib import Path

import pytest
import torch
from tiny_runs import Stopped, debug, records_of, result_of, state_of, stop_after, tiny_config

import distmgcd
from distmgcd.core.grids import expand
from distmgcd.errors import UserError
from distmgcd.sweep.file import read_sweep
from distmgcd.training.replay.replay_update import replay

STARTS = {
    "data": ("start.kind=data",),
    "noise": ("start.kind=noise",),
    "single": ("start.kind=single", "grids.sizes=[8]"),
}
PERSISTENT = ("start.kind=persistent", "data.validation=0.97")  # 43 images, of which 6 updates see most


@pytest.fixture(scope="module", params=STARTS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    debug(folder, *STARTS[request.param])
    return request.param, folder


@pytest.fixture(scope="module")
def persistent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("persistent")
    debug(folder, *PERSISTENT)
    return folder


def test_a_run_that_was_cut_ends_with_the_same_bits(run: tuple[str, Path], tmp_path: Path):
    name, folder = run
    with pytest.raises(Stopped):
        debug(tmp_path, *STARTS[name], show=stop_after(3))
    debug(tmp_path, *STARTS[name])
    ours, theirs = state_of(tmp_path), state_of(folder)
    assert not [key for key, value in theirs.items() if not torch.equal(ours[key], value)]
    assert result_of(tmp_path)["swd"] == result_of(folder)["swd"]


def test_a_replay_starts_where_the_chains_did(run: tuple[str, Path]):
    name, folder = run
    found = replay(str(folder / "run"), update=4, device="cpu")
    (logged,) = (record for record in records_of(folder) if record["update"] == 4 and "grids" in record)
    everything = replay(str(folder / "run"), update=4, images="all", device="cpu")
    for grid in everything.grids:
        drift = grid.drift[-1].square().mean().sqrt().item()  # of the last step, as the log has it
        assert drift == pytest.approx(logged["grids"][str(grid.size)]["drift"], rel=1e-5)
    finest = found.grids[-1]
    start = finest.pictures[0]
    if name == "data":
        assert (start - finest.observed).square().mean().sqrt().item() == pytest.approx(0.02, rel=0.3)  # data.noise
    elif name == "noise":
        assert start.var().item() == pytest.approx(1 / 3, rel=0.2)
    else:
        assert torch.equal(start, expand(start[:, :, :1, :1], 8))


def test_fresh_samples_of_a_run_start_at_colours_or_at_noise(run: tuple[str, Path]):
    name, folder = run
    assert tiny_config(*STARTS[name]).start.of_samples == ("noise" if name == "noise" else "climb")
    images = distmgcd.load(str(folder / "run"), device="cpu").sample(200, seed=1)
    spread = images.var(dim=(1, 2, 3)).mean()  # two steps of an untrained model leave it as it was
    assert (spread > 0.2) == (name == "noise")
    words = result_of(folder)["protocol"]["samples"]
    assert ("from uniform noise" if name == "noise" else "from 1x1 starts") in words


def test_how_samples_start_may_be_chosen_apart_from_training(tmp_path: Path):
    debug(tmp_path, *STARTS["data"], "start.samples=noise")
    assert distmgcd.load(str(tmp_path / "run"), device="cpu").sample(20).var(dim=(1, 2, 3)).mean() > 0.2


def test_a_single_grid_is_the_multigrid_of_one_grid(tmp_path: Path):
    debug(tmp_path, "grids.sizes=[8]", name="multigrid")
    debug(tmp_path, *STARTS["single"], name="single")
    ours, theirs = state_of(tmp_path, "multigrid"), state_of(tmp_path, "single")
    assert not [key for key, value in theirs.items() if not torch.equal(ours[key], value)]


def test_a_single_grid_among_several_is_a_mistake():
    with pytest.raises(UserError, match=r"start.kind=single .*\[2, 8\] has 2; set 'grids.sizes=\[8\]'"):
        tiny_config("start.kind=single")


def test_a_persistent_run_is_measured_on_its_bank_beside_fresh_samples(persistent: Path):
    result = result_of(persistent)
    assert list(result["swd"]) == ["samples", "bank", "untrained", "data"]
    assert result["swd"]["bank"] != result["swd"]["samples"] and "no fresh samples" in result["protocol"]["bank"]
    bank = distmgcd.load(str(persistent / "run")).bank
    assert bank.shape[1:] == (1, 8, 8) and 30 < len(bank) <= 43


def test_the_bank_is_shown_and_a_run_without_one_says_so(persistent: Path, run: tuple[str, Path], tmp_path, command):
    out = tmp_path / "bank.npz"
    status, told, _ = command("sample", persistent / "run", "--bank", "--num", 9, "--out", out)
    assert status == 0 and "\n9 persistent chains of " in told and out.exists()
    status, _, told = command("sample", run[1] / "run", "--bank", "--out", out)
    assert status == 2 and f"start.kind={run[0]}" in told


def test_a_sweep_may_search_over_starts(tmp_path: Path):
    sweep = {"base": "digits", "budget": {"updates": 60, "samples": 9}, "search": "grid",
             "space": {"start.kind": {"choice": ["multigrid", "data", "persistent", "noise"]}}}  # fmt: skip
    (tmp_path / "starts.yaml").write_text(json.dumps(sweep))
    found = read_sweep(str(tmp_path / "starts.yaml"))
    kinds = [found.config_of(found.point(number)).start.kind for number in range(1, 5)]
    assert sorted(kinds) == ["data", "multigrid", "noise", "persistent"]
