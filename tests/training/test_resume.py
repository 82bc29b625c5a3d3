"""A run cut in two ends bit for bit where the unbroken one ends, and a run name holds one config."""

import shutil
from pathlib import Path

import pytest
import torch
from tiny_runs import Stopped, debug, records_of, result_of, state_of, stop_after, tiny_config

from distmgcd.config import load_config
from distmgcd.errors import UserError
from distmgcd.launch import start_run
from distmgcd.runs import checkpoint
from distmgcd.runs.run_folder import Run
from distmgcd.training import loop

CHANGES = (
    "learning.num_updates=9",
    "checkpoint.every=3",
    "checkpoint.keep=10",
    "data.flip=true",
    "network.norm=spectral",
)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    debug(folder, *CHANGES)
    return folder


class Shown(list):
    """What a run showed."""

    def __call__(self, record: dict) -> None:
        self.append(record)

    @property
    def updates(self) -> list[int]:
        return [record["update"] for record in self if "grids" in record]

    @property
    def events(self) -> list[str]:
        return [record["event"] for record in self if "event" in record]


def assert_ends_as(folder: Path, other: Path) -> None:
    ours, theirs = state_of(folder), state_of(other)
    assert ours.keys() == theirs.keys()
    assert not [name for name, value in ours.items() if not torch.equal(value, theirs[name])]


@pytest.mark.parametrize("stop", [1, 3, 5, 8, 9])
def test_a_run_cut_in_two_ends_where_the_unbroken_one_ends(unbroken: Path, tmp_path: Path, stop: int):
    with pytest.raises(Stopped):
        debug(tmp_path, *CHANGES, show=stop_after(stop))
    first = [record["update"] for record in records_of(tmp_path) if "grids" in record]
    shown = Shown()
    result = debug(tmp_path, *CHANGES, show=shown)
    assert_ends_as(tmp_path, unbroken)
    assert result["swd"] == result_of(unbroken)["swd"]
    assert first == list(range(1, stop + 1)) and shown.updates == list(
        range((stop - 1) // 3 * 3 + 1, 10)
    )  # from the checkpoint on


def test_the_log_of_a_run_cut_in_two_has_every_update_once(unbroken: Path, tmp_path: Path):
    with pytest.raises(Stopped):
        debug(tmp_path, *CHANGES, show=stop_after(5))
    with (tmp_path / "run" / "log" / "metrics.jsonl").open("a") as file:
        file.write('{"update": 6, "num_upd')  # the line that a killed process was writing
    debug(tmp_path, *CHANGES)
    ours, theirs = ([r for r in records_of(folder) if "grids" in r] for folder in (tmp_path, unbroken))
    assert [record["update"] for record in ours] == list(range(1, 10))
    assert [record["grids"] for record in ours] == [record["grids"] for record in theirs]


def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(unbroken: Path, tmp_path: Path):
    with pytest.raises(Stopped):
        debug(tmp_path, *CHANGES, show=stop_after(8))
    (tmp_path / "run" / "checkpoints" / "update_000006" / "ema.safetensors").write_bytes(b"")
    shown = Shown()
    debug(tmp_path, *CHANGES, show=shown)
    assert shown.updates == [4, 5, 6, 7, 8, 9]
    assert "update_000006 is damaged" in shown.events[1] and "from the checkpoint of update 3" in shown.events[2]
    assert_ends_as(tmp_path, unbroken)


def test_every_checkpoint_of_a_run_is_one_to_resume_from(unbroken: Path, tmp_path: Path):
    for update in (3, 6):
        folder = tmp_path / str(update)
        shutil.copytree(unbroken, folder)
        (folder / "run" / "result.json").unlink()
        for name in checkpoint.names(Run.open(str(folder / "run")).store):
            if name > f"update_{update:06d}":
                shutil.rmtree(folder / "run" / "checkpoints" / name)
        debug(folder, *CHANGES)
        assert_ends_as(folder, unbroken)


def test_the_clock_of_a_run_counts_all_its_parts(tmp_path: Path):
    with pytest.raises(Stopped):
        debug(tmp_path, *CHANGES, show=stop_after(5))
    before = checkpoint.newest(Run.open(str(tmp_path / "run")).store).progress.seconds
    assert debug(tmp_path, *CHANGES)["seconds"] > before > 0


def test_a_finished_run_gives_its_result_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    result = debug(tmp_path)
    monkeypatch.setattr(loop, "train", lambda *_: pytest.fail("it trains again"))
    assert debug(tmp_path) == result
    assert (
        start_run.train(tiny_config(), storage_path=str(tmp_path), name="run", use_gpu=False) == result
    )  # without Ray


@pytest.mark.parametrize("how", ["train", "debug"])
def test_a_finished_run_asked_for_with_another_evaluation_says_how_to_measure_it_again(tmp_path: Path, how: str):
    result = debug(tmp_path)
    command, shown = {"storage_path": str(tmp_path), "name": "run", "use_gpu": False}, Shown()
    wanted = tiny_config("evaluate.num_samples=16", "evaluate.num_draws=2", "evaluate.every=2", "log.every=2")
    assert getattr(start_run, how)(wanted, **command, show=shown) == result
    (said,) = shown.events
    run = tmp_path / "run"
    assert f"The run {run} is finished" in said and f"`distmgcd evaluate {run} --num N`" in said
    assert "evaluate.num_draws (3 there, 2 now), evaluate.num_samples (8 there, 16 now);" in said
    shown = Shown()
    start_run.debug(tiny_config("evaluate.every=2", "log.every=2"), **command, show=shown)
    assert not shown.events  # nothing that the result depends on

    assert f"as does the same command once {run / 'result.json'} is deleted." in said
    (run / "result.json").unlink()
    assert "16 fresh chains a draw" in start_run.debug(wanted, **command)["protocol"]["samples"]


def test_a_run_that_stopped_before_its_last_evaluation_only_does_that(tmp_path: Path):
    result = debug(tmp_path)
    (tmp_path / "run" / "result.json").unlink()
    shown = Shown()
    assert debug(tmp_path, show=shown)["swd"] == result["swd"]
    assert shown.updates == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("langevin.num_steps=3", "langevin.num_steps (2 there, 3 now)"),
        ("seed=1", "seed (0 there, 1 now)"),
        ("network.channels=[5]", "network.channels ([4] there, [5] now)"),
    ],
)
def test_a_run_name_that_holds_another_config_says_what_differs(tmp_path: Path, change: str, words: str):
    debug(tmp_path)
    with pytest.raises(UserError, match="holds a different config.*choose another --name") as caught:
        debug(tmp_path, change)
    assert words in str(caught.value)


def test_what_does_not_decide_where_a_run_goes_may_change_and_takes_effect(unbroken: Path, tmp_path: Path):
    with pytest.raises(Stopped):
        debug(tmp_path, *CHANGES, show=stop_after(5))
    debug(tmp_path, *CHANGES, "log.every=2", "checkpoint.every=2", "checkpoint.keep=1", "evaluate.num_samples=4")
    assert_ends_as(tmp_path, unbroken)
    assert [r["update"] for r in records_of(tmp_path) if "grids" in r] == [1, 2, 3, 4, 6, 8, 9]
    assert checkpoint.names(Run.open(str(tmp_path / "run")).store) == ["update_000009"]
    assert load_config(str(tmp_path / "run" / "config.yaml")).log.every == 2


def test_a_relative_data_path_is_the_same_run_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from distmgcd.data import import_images

    import_images("sklearn:digits", str(tmp_path / "digits.parquet"))
    monkeypatch.chdir(tmp_path)
    result = debug(tmp_path, "data.path=digits.parquet")
    assert debug(tmp_path, f"data.path={tmp_path}/digits.parquet") == result


@pytest.mark.parametrize(
    ("path", "absolute"),
    [
        ("images", "/here/images"),
        ("images/*.parquet", "/here/images/*.parquet"),
        ("/there/images", "/there/images"),
        ("torchvision:MNIST?root=data&split=x", "torchvision:MNIST?root=/here/data&split=x"),
        ("torchvision:MNIST", "torchvision:MNIST"),
        ("s3://bucket/images", "s3://bucket/images"),
        ("sklearn:digits", "sklearn:digits"),
    ],
)
def test_workers_find_data_by_an_absolute_path(path: str, absolute: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Path, "absolute", lambda self: self if self.is_absolute() else Path("/here") / self)
    assert start_run.with_absolute_path(tiny_config(f"data.path={path}")).data.path == absolute


def test_a_run_name_is_free_again_if_its_first_command_was_a_mistake(tmp_path: Path):
    with pytest.raises(UserError):
        debug(tmp_path, "learning.global_batch_size=5000")
    debug(tmp_path)


@pytest.mark.parametrize(("changes", "told"), [((), 1), (("learning.block_size=4",), 0), (("network.norm=layer",), 0)])
def test_a_run_whose_chains_are_coupled_says_so_once(tmp_path: Path, changes: tuple[str, ...], told: int):
    debug(tmp_path, "network.norm=batch", *changes)
    (tmp_path / "run" / "result.json").unlink()
    debug(tmp_path, "network.norm=batch", *changes)  # goes on
    events = [record["event"] for record in records_of(tmp_path) if "event" in record]
    assert sum("couples the chains" in event for event in events) == told
