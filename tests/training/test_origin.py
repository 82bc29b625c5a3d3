"""A new run that starts from the weights of another one."""

import shutil
from pathlib import Path

import pytest
import torch
from tiny_runs import debug, records_of, result_of, state_of, tiny_config

from distmgcd.errors import UserError
from distmgcd.launch import start_run
from distmgcd.models.assemble import open_training_images
from distmgcd.runs import checkpoint
from distmgcd.runs.run_folder import Run, StartFrom
from distmgcd.training import loop
from distmgcd.training.origin import read_origin, write_start
from distmgcd.training.replay.replay_update import replay
from distmgcd.workers.collectives import LocalWorker


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("first")
    debug(folder)
    return folder / "run"


def start(folder: Path, origin: StartFrom | str | None, *changes: str, name: str = "run"):
    how = {"storage_path": str(folder), "name": name, "use_gpu": False}
    return start_run.debug(tiny_config(*changes), start_from=origin, **how)


@pytest.mark.parametrize("weights", ["ema", "raw"])
def test_it_begins_with_these_weights_and_says_so(first: Path, tmp_path: Path, weights: str):
    result = start(tmp_path, StartFrom(str(first), "4", weights), "langevin.num_steps=3", "checkpoint.keep=1")
    theirs, ours = (
        state_of(first.parent, checkpoint_name="update_000004"),
        state_of(tmp_path, checkpoint_name="update_000000"),
    )
    file = {"ema": "ema", "raw": "model"}[weights]
    for name in (name.removeprefix("model/") for name in ours if name.startswith("model/")):
        for ours_of in ("model", "ema"):
            assert torch.equal(ours[f"{ours_of}/{name}"], theirs[f"{file}/{name}"])
    assert result["origin"] == result_of(tmp_path)["origin"]
    assert {key: result["origin"][key] for key in ("run", "checkpoint", "weights")} == {
        "run": str(first),
        "checkpoint": "update_000004",
        "weights": weights,
    }
    kind = {"ema": "averaged", "raw": "raw"}[weights]
    assert records_of(tmp_path)[0]["event"] == f"Starting from the {kind} weights of {first} at update 4."
    assert checkpoint.names(Run.open(str(tmp_path / "run")).store) == ["update_000000", "update_000006"]


def test_it_goes_on_without_the_other_run_and_without_being_told_again(first: Path, tmp_path: Path, monkeypatch):
    shutil.copytree(first, tmp_path / "first")
    start(tmp_path, str(tmp_path / "first"))
    shutil.rmtree(tmp_path / "first")
    (tmp_path / "run" / "result.json").unlink()
    for name in ("update_000002", "update_000004", "update_000006"):
        shutil.rmtree(tmp_path / "run" / "checkpoints" / name, ignore_errors=True)
    before = (tmp_path / "run" / "samples.png").read_bytes()
    assert start(tmp_path, None)["update"] == 6
    assert (tmp_path / "run" / "samples.png").read_bytes() == before, "the same run again"


def test_a_command_that_was_killed_before_the_first_checkpoint_starts_there_all_the_same(
    first: Path, tmp_path: Path, monkeypatch
):
    monkeypatch.setattr(loop, "train", lambda *_: {})
    start(tmp_path, str(first))
    run = Run.open(str(tmp_path / "run"))
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    write_start(run, run.config(), open_training_images(run.config()))
    assert checkpoint.names(run.store) == ["update_000000"]
    (tmp_path / "run" / "config.yaml").unlink()  # killed before that, and another run takes the name
    start(tmp_path, None)
    assert read_origin(run) is None


def without_checkpoints(folder: Path, *updates: int) -> Run:
    for update in updates:
        shutil.rmtree(folder / "run" / "checkpoints" / checkpoint.name_of(update))
    return Run.open(str(folder / "run"))


def test_its_replay_begins_at_these_weights_and_without_them_not_at_random_ones(first: Path, tmp_path: Path):
    start(tmp_path, str(first))
    run = str(tmp_path / "run")
    (note,) = replay(run, update=2, images="all", device="cpu").notes
    assert f"the run started from, the averaged weights of {first} at update 6, so update 1 is computed again" in note
    without_checkpoints(tmp_path, 0)
    left = checkpoint.names(Run.open(run).store)
    assert replay(run, update=checkpoint.update_of(left[0]) + 1, images="all", device="cpu").num_rerun == 0
    with pytest.raises(
        UserError, match=rf"started from the averaged .* \(it has {left[0]}.*put back a copy of .*/update_000000"
    ):
        replay(run, update=2, device="cpu")


def test_without_any_checkpoint_it_trains_from_these_weights_or_not_at_all(first: Path, tmp_path: Path):
    shutil.copytree(first, tmp_path / "first")
    start(tmp_path, str(tmp_path / "first"))
    run = Run.open(str(tmp_path / "run"))
    without_checkpoints(tmp_path, *map(checkpoint.update_of, checkpoint.names(run.store)))
    shutil.rmtree(tmp_path / "first")
    assert start(tmp_path, None) == run.result(), "a finished run needs none"
    (tmp_path / "run" / "result.json").unlink()
    with pytest.raises(UserError, match=r"no whole checkpoint is left .* nor can it be written anew \(There is no run"):
        start(tmp_path, None)
    with pytest.raises(UserError, match="no whole checkpoint is left that it can begin from; put back"):
        loop.train(run.config(), LocalWorker(torch.device("cpu")), run)  # as a worker that starts again does


def test_a_first_checkpoint_that_was_cut_short_is_written_anew(first: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(loop, "train", lambda *_: {})
    start(tmp_path, str(first))
    (tmp_path / "run" / "checkpoints" / "update_000000" / "checksums.json").unlink()  # an object store cannot rename
    start(tmp_path, None)
    assert checkpoint.newest(Run.open(str(tmp_path / "run")).store).name == "update_000000"


def test_a_roll_back_that_finds_no_checkpoint_does_not_go_back_to_random_weights(first: Path, tmp_path: Path):
    changes = ("learning.learning_rate=100", "watch.max_gap=3", "checkpoint.every=6")

    def lose(record: dict) -> None:
        if "speed" in record:
            without_checkpoints(tmp_path, 0)

    how = {"storage_path": str(tmp_path), "name": "run", "use_gpu": False}
    with pytest.raises(UserError, match="no whole checkpoint is left that it can begin from; put back"):
        start_run.debug(tiny_config(*changes), start_from=str(first), show=lose, **how)


def test_roll_backs_before_the_first_checkpoint_go_back_to_these_weights(first: Path, tmp_path: Path):
    changes = ("learning.learning_rate=100", "watch.rate_after_retry=1e-4", "watch.max_gap=3", "checkpoint.every=6")
    assert start(tmp_path, str(first), *changes)["num_retries"] == 2
    events = [record["event"] for record in records_of(tmp_path) if "event" in record]
    assert "Going back to the checkpoint of update 0" in events[1]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            ("network.channels=[5]",),
            r"--from .* other shapes than this config: network.channels \(\[4\] there, \[5\] now\)",
        ),
        (("grids.sizes=[2,4,8]",), r"grids.sizes \(\[2, 8\] there, \[2, 4, 8\] now\); give the grids"),
    ],
)
def test_networks_that_do_not_fit_are_one_sentence(first: Path, tmp_path: Path, changes: tuple[str, ...], words: str):
    with pytest.raises(UserError, match=words):
        start(tmp_path, str(first), *changes)
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_other_mistakes_name_the_way_out(first: Path, tmp_path: Path):
    with pytest.raises(UserError, match="would start the run .* from itself; give the new one another --name"):
        start(first.parent, str(first))
    with pytest.raises(UserError, match="There is no run at nowhere"):
        start(tmp_path, "nowhere")
    debug(tmp_path)
    with pytest.raises(UserError, match="exists already, and started from untrained networks; choose another --name"):
        start(tmp_path, str(first))


def test_persistent_chains_start_anew(first: Path, tmp_path: Path):
    assert start(tmp_path, str(first), "start.kind=persistent")["update"] == 6
    found = checkpoint.read(Run.open(str(tmp_path / "run")).store, "update_000000")
    assert not found.chains()["walked"].any()


def test_when_all_that_was_learned_is_damaged_the_run_does_not_start_again_in_silence(first: Path, tmp_path: Path):
    start(tmp_path, str(first))
    (tmp_path / "run" / "result.json").unlink()
    for file in (tmp_path / "run" / "checkpoints").glob("update_00000[246]/ema.safetensors"):
        file.write_bytes(b"")
    with pytest.raises(UserError, match="there is nothing to go on from"):
        start(tmp_path, None)
