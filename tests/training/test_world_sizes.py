"""A run is a function of its config, not of its cluster: whole updates, sampling included, by 1 to 4 workers."""

from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from tiny_runs import records_of, result_of, state_of
from torch import Tensor
from world_sizes import ALL, LONG, SHORT, STARTS, run_rank, train

NUM_TWINS = 3


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The folders of the runs of so many workers; 3, which do not divide the batch, only make the short ones."""
    folders = {}
    for num_workers in (1, 2, 3, 4):
        folders[num_workers] = tmp_path_factory.mktemp(f"{num_workers}_workers")
        names = tuple(SHORT) if num_workers == 3 else tuple(LONG | STARTS)
        if num_workers == 1:
            for name in ALL:
                train(folders[1], name)
        else:
            mp.spawn(run_rank, args=(num_workers, str(folders[num_workers]), names), nprocs=num_workers)
    return folders


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The plain run of one worker from weights that are another by one unit in the last place."""
    folders = [tmp_path_factory.mktemp(f"twin{seed}") for seed in range(NUM_TWINS)]
    for seed, folder in enumerate(folders):
        train(folder, "plain", one_ulp=seed)
    return folders


def pictures_of(folder: Path, name: str) -> dict[str, Tensor]:
    """What all workers synthesised at the last update, by image."""
    parts = [torch.load(path) for path in folder.glob(f"{name}.pictures.*")]
    order = torch.cat([part["indices"] for part in parts]).argsort()
    return {key: torch.cat([part[key] for part in parts])[order] for key in parts[0]}


def rms(ours: dict[str, Tensor], theirs: dict[str, Tensor], prefix: str = "") -> float:
    differences = [ours[key].double() - theirs[key].double() for key in ours if key.startswith(prefix)]
    return float(torch.cat([x.flatten() for x in differences]).square().mean().sqrt())


@pytest.mark.parametrize("name", ["blocks", "blocks_in_bf16"])
@pytest.mark.parametrize("num_workers", [2, 4])
def test_in_blocks_any_number_of_workers_ends_with_the_same_bits(runs: dict[int, Path], num_workers: int, name: str):
    for of_run in (state_of, pictures_of):
        ours, theirs = of_run(runs[num_workers], name), of_run(runs[1], name)
        assert ours.keys() == theirs.keys()
        assert not [name for name, value in theirs.items() if not torch.equal(ours[name], value)]
    for family in ("swd", "fd"):
        assert result_of(runs[num_workers], name)[family] == result_of(runs[1], name)[family]
    ours, theirs = (
        [r["grids"] for r in records_of(folder, name) if "grids" in r] for folder in (runs[num_workers], runs[1])
    )
    assert ours == theirs
    assert result_of(runs[1], name)["speed"]["precision"] == ("bf16" if "bf16" in name else "fp32")


@pytest.mark.parametrize("name", SHORT)
def test_in_blocks_no_norm_breaks_it_nor_do_unequal_shares(runs: dict[int, Path], name: str):
    ours, theirs = state_of(runs[3], name), state_of(runs[1], name)
    assert not [key for key, value in theirs.items() if not torch.equal(ours[key], value)]


@pytest.mark.parametrize("num_workers", [2, 4])
@pytest.mark.parametrize("name", STARTS)
def test_in_blocks_any_number_of_workers_starts_the_same_chains(runs: dict[int, Path], name: str, num_workers: int):
    ours, theirs = state_of(runs[num_workers], name), state_of(runs[1], name)
    assert not [key for key, value in theirs.items() if not torch.equal(ours[key], value)]
    assert result_of(runs[num_workers], name)["swd"] == result_of(runs[1], name)["swd"]


@pytest.mark.parametrize("num_workers", [2, 4])
def test_without_blocks_the_numbers_of_workers_matter_as_much_as_the_last_bit_of_a_weight(
    runs: dict[int, Path], twins: list[Path], num_workers: int
):
    """The tolerance is derived: twins differ by rounding alone, which 20 updates and their chains have amplified.

    Adam divides by the size of a gradient and LeakyReLU has kinks, so where it ends is some draw; hence the factor.
    """
    for of_run, prefix in ((state_of, "model"), (pictures_of, "8"), (pictures_of, "2")):
        one = of_run(runs[1], "plain")
        tolerance = 10 * max(rms(of_run(twin, "plain"), one, prefix) for twin in twins)
        assert 0 < rms(of_run(runs[num_workers], "plain"), one, prefix) < tolerance, prefix
    assert torch.equal(pictures_of(runs[num_workers], "plain")["indices"], pictures_of(runs[1], "plain")["indices"])


def test_the_derived_tolerance_is_far_below_what_20_updates_change(runs: dict[int, Path], twins: list[Path]):
    one, other_run = state_of(runs[1], "plain"), state_of(runs[1], "blocks")  # the same but for rounding
    assert rms(one, other_run, "model") < 1e-4
    moved = rms(one, {key: torch.zeros_like(value) for key, value in one.items()}, "model")
    assert all(10 * rms(state_of(twin, "plain"), one, "model") < 0.02 * moved for twin in twins)
