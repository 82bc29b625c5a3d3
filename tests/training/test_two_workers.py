"""Two workers walk the same chains and learn the same model as one, through the whole loop."""

import json
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from tiny_runs import debug, records_of, result_of, state_of, tiny_config
from two_workers import distances, run_rank

from distmgcd.runs import checkpoint
from distmgcd.runs.run_folder import Run
from distmgcd.workers.collectives import LocalWorker
from distmgcd.workers.stop import Request

CHANGES = ("data.flip=true", "checkpoint.keep=10")
BEST = ("learning.learning_rate=3", "learning.warmup=5", "learning.ema=0", "evaluate.every=2", "evaluate.num_draws=1",
        "evaluate.num_samples=64", "watch.max_gap=1e9", "watch.max_drift=1e9")  # fmt: skip
WILD = ("learning.learning_rate=100", "watch.rate_after_retry=1e-4", "watch.max_gap=3")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of two workers: run; wild, which diverges once per grid; best, whose end is worse than what came before;
    after, the first with gradients averaged after all chains; cut, the first gone on with from update 2."""
    folder = tmp_path_factory.mktemp("two")
    Run.at(str(folder), "run").claim(tiny_config(*CHANGES))
    Run.at(str(folder), "wild").claim(tiny_config(*WILD))
    Run.at(str(folder), "best").claim(tiny_config(*BEST))
    Run.at(str(folder), "after").claim(tiny_config(*CHANGES, "speed.overlap=false"))
    mp.spawn(run_rank, args=(2, str(folder)), nprocs=2)
    return folder


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one")
    debug(folder, *CHANGES)
    debug(folder, *WILD, name="wild")
    return folder


def test_two_workers_learn_what_one_learns(one: Path, two: Path):
    ours, theirs = state_of(two), state_of(one)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}")


def test_two_workers_report_what_one_reports(one: Path, two: Path):
    ours, theirs = ([r for r in records_of(folder) if "grids" in r] for folder in (two, one))
    assert [record["update"] for record in ours] == list(range(1, 7))
    for record, other in zip(ours, theirs, strict=True):
        for size, values in other["grids"].items():
            assert record["grids"][size] == pytest.approx(values, rel=1e-2, abs=1e-4)


def test_samples_of_two_workers_are_the_samples_of_one_in_their_order(one: Path, two: Path):
    assert result_of(two)["swd"]["untrained"] == pytest.approx(result_of(one)["swd"]["untrained"], rel=1e-4)
    assert result_of(two)["swd"]["samples"] == pytest.approx(result_of(one)["swd"]["samples"], rel=1e-3)
    drawn = [torch.load(two / f"samples{rank}.pt") for rank in range(2)]
    for num in (1, 5):
        assert all(map(torch.equal, drawn[0][num], drawn[1][num]))
        assert [tuple(level.shape) for level in drawn[0][num]] == [(num, 1, 2, 2), (num, 1, 8, 8)]
    torch.testing.assert_close(drawn[0][5][-1][:1], drawn[0][1][-1], rtol=1e-5, atol=1e-6)
    assert drawn[0][5][-1].flatten(1).unique(dim=0).shape[0] == 5


def test_distances_of_two_workers_are_those_of_one_bit_for_bit(two: Path):
    alone = distances(LocalWorker(torch.device("cpu")))
    assert torch.load(two / "distances0.pt") == alone and torch.load(two / "distances1.pt") == [None, None]
    assert all(found["fd"]["FD-Random"] > 0 and found["swd"].keys() == {"2", "8"} for found in alone)


def test_values_are_averaged_over_workers_and_rows_gathered_in_rank_order(two: Path):
    for rank in range(2):
        found = torch.load(two / f"collectives{rank}.pt")
        assert found["mean"].tolist() == [1.5, 4.5]
        assert found["gathered"].flatten().tolist() == [0.0, 1.0, 10.0, 11.0, 12.0]
        assert found["gathered_of_one"].flatten().tolist() == [0.0]


def test_what_one_worker_is_asked_for_all_do_at_the_same_update(two: Path):
    for rank in range(2):
        assert torch.load(two / f"collectives{rank}.pt")["agreed"].tolist() == [0, 0, Request.SAVE, Request.STOP, 0]


def test_what_is_asked_after_between_two_updates_is_not_lost(two: Path):
    for rank in range(2):  # the wish to save is heeded at the next update
        assert torch.load(two / f"collectives{rank}.pt")["left"].tolist() == [0, 0, Request.SAVE, 0, 1]


def test_only_the_first_worker_has_a_result_to_return(two: Path):
    results = [json.loads((two / f"results{rank}.json").read_text()) for rank in range(2)]
    assert results[0]["run"] == result_of(two) and results[1] == dict.fromkeys(results[0], {})


def test_a_run_is_the_same_whether_gradients_are_averaged_beside_the_chains_or_after_them(two: Path):
    ours, theirs = state_of(two, "after"), state_of(two)
    assert ours.keys() == theirs.keys()
    assert not [name for name, value in theirs.items() if not torch.equal(ours[name], value)]
    ours, theirs = ([r["grids"] for r in records_of(two, name) if "grids" in r] for name in ("after", "run"))
    assert ours == theirs


def test_workers_share_the_weights_of_the_first(two: Path):
    for rank in range(2):
        assert torch.load(two / f"collectives{rank}.pt")["shared"].eq(1).all()


def test_two_workers_go_back_together(one: Path, two: Path):
    ours, theirs = (result_of(folder, "wild") for folder in (two, one))
    assert ours["num_retries"] == theirs["num_retries"] == 2
    events = [[r["update"] for r in records_of(folder, "wild") if "event" in r] for folder in (two, one)]
    assert events[0] == events[1]


def test_two_workers_go_on_bit_for_bit(two: Path):
    ours, theirs = state_of(two, "cut"), state_of(two)
    assert not [name for name, value in theirs.items() if not torch.equal(ours[name], value)]
    assert [r["update"] for r in records_of(two, "cut") if "grids" in r] == list(range(1, 7))


def test_two_workers_end_with_the_best_model_together(two: Path):
    result, best = result_of(two, "best"), Run.open(str(two / "best")).store
    name = result["ended_with"]["checkpoint"]
    assert name != "update_000006" and result["update"] == 6
    measured = checkpoint.read(best, name).measured["swd"]  # by both of them, as it was trained
    assert result["swd"]["samples"] == pytest.approx(measured, rel=1e-4), "each drew its share from the same weights"
    assert sum(result["swd"]["newest"].values()) > sum(measured.values())
