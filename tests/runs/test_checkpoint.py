"""A checkpoint gives back what was saved, or says that it cannot."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pyarrow import fs
from tiny_runs import tiny_config

from distmgcd.core.learning import Learner, learn
from distmgcd.core.synthesis import StartDistribution
from distmgcd.data import batch_indices
from distmgcd.errors import UserError
from distmgcd.models.assemble import make_learner, make_method, open_training_images
from distmgcd.runs import checkpoint, learner_state, retention
from distmgcd.runs.checkpoint import Progress
from distmgcd.runs.store import Store
from distmgcd.workers.collectives import LocalWorker

CONFIG = tiny_config("network.norm=spectral")  # a norm with buffers
STARTS = StartDistribution.of(torch.tensor([[3.0], [3.0], [200.0]]))


class RemoteStore(Store):
    """A folder that looks like an object store: not local, nothing can be renamed in it."""

    def __init__(self, location: str):
        self.location, self.root = f"test://{location}", "run"
        self.filesystem = fs.SubTreeFileSystem(location, fs.LocalFileSystem())

    def rename_folder(self, old: str, new: str) -> None:
        raise AssertionError("an object store cannot rename a folder")


@pytest.fixture(params=[Store, RemoteStore], ids=["local", "remote"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return request.param(str(tmp_path))


def new_learner(*changes: str) -> Learner:
    config = tiny_config("network.norm=spectral", *changes)
    return make_learner(config, LocalWorker(torch.device("cpu")))


def advance(learner: Learner, updates: range) -> None:
    images = open_training_images(CONFIG).images
    for update in updates:
        batch = batch_indices(update, num_images=len(images), global_batch_size=8, seed=0)
        learn(learner, torch.from_numpy(images[batch]), torch.from_numpy(batch.copy()), update, make_method(CONFIG))


def everything(learner: Learner) -> dict[str, torch.Tensor]:
    return {
        **{f"model.{name}": value for name, value in learner.model.state_dict().items()},
        **{f"ema.{name}": value for name, value in learner.ema.state_dict().items()},
        **{
            f"optimizer.{grid}.{number}.{key}": value
            for grid, optimizer in enumerate(learner.optimizers)
            for number, state in optimizer.state_dict()["state"].items()
            for key, value in state.items()
        },
    }


def assert_same(a: Learner, b: Learner) -> None:
    one, other = everything(a), everything(b)
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) and value.dtype == other[name].dtype for name, value in one.items())


def saved(store: Store, *updates: int) -> Learner:
    """A store with a checkpoint after each of these numbers of updates; the learner as it was last saved."""
    learner = new_learner()
    for last, update in zip((0, *updates), updates, strict=False):
        advance(learner, range(last, update))
        learner_state.save(store, learner, STARTS, Progress(update=update, rate_scale=0.25, num_retries=2, seconds=1.5))
    return learner


def test_what_is_restored_is_what_was_saved_bit_for_bit(store: Store):
    learner, restored = saved(store, 3), new_learner("seed=9")
    found = checkpoint.newest(store)
    learner_state.restore(restored, found)
    assert_same(restored, learner)
    assert found.progress == Progress(update=3, rate_scale=0.25, num_retries=2, seconds=1.5)
    assert torch.equal(found.starts().levels, STARTS.levels) and torch.equal(found.starts().counts, STARTS.counts)


def test_a_restored_learner_learns_on_as_if_it_had_never_stopped(store: Store):
    learner, restored = saved(store, 2), new_learner()
    learner_state.restore(restored, checkpoint.newest(store))
    advance(learner, range(2, 5))
    advance(restored, range(2, 5))
    assert_same(restored, learner)


def test_a_learner_that_has_learned_meanwhile_forgets_it(store: Store):
    learner = saved(store, 2)
    again = new_learner()
    advance(again, range(2, 6))
    learner_state.restore(again, checkpoint.newest(store))
    assert_same(again, learner)


def test_a_checkpoint_of_no_update_holds_an_optimiser_without_state(store: Store):
    learner_state.save(store, new_learner(), STARTS, Progress())
    restored = new_learner()
    advance(restored, range(1))
    learner_state.restore(restored, checkpoint.newest(store))
    assert_same(restored, new_learner())


# Damage


def flip_a_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def empty_the_folder(file: Path) -> None:
    for other in file.parent.iterdir():
        other.unlink()


FILES = (
    "model.safetensors",
    "ema.safetensors",
    "optimizer.safetensors",
    "starts.safetensors",
    "state.json",
    "checksums.json",
)
DAMAGES = [
    *((flip_a_byte, file) for file in FILES),
    *((damage, file) for damage in (truncate, Path.unlink) for file in ("model.safetensors", "checksums.json")),
    (empty_the_folder, "state.json"),
    (lambda file: file.write_text("{}"), "checksums.json"),
    (lambda file: file.write_text("[]"), "checksums.json"),
    (lambda file: file.write_bytes(b"\xff\xfe"), "checksums.json"),
]


@pytest.mark.parametrize(("damage", "file"), DAMAGES, ids=lambda value: getattr(value, "__name__", value))
def test_a_damaged_checkpoint_is_skipped_for_the_one_before_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], object], file: str
):
    store = Store(str(tmp_path))
    saved(store, 1, 2)
    damage(tmp_path / "checkpoints" / "update_000002" / file)
    assert checkpoint.newest(store).progress.update == 1
    (record,) = caplog.records
    assert "update_000002 is damaged" in record.getMessage() and record.levelname == "WARNING"


def test_after_a_roll_back_the_newest_is_that_of_the_run_as_it_is_now(store: Store, caplog: pytest.LogCaptureFixture):
    """The best one is kept, though the run went back beyond it: to go on from it would undo the roll-back."""
    for update, num_retries in ((5, 0), (20, 0), (15, 2), (17, 2)):
        learner_state.save(store, new_learner(), STARTS, Progress(update=update, num_retries=num_retries))
    assert [checkpoint.update_of(name) for name in checkpoint.by_time(store)] == [5, 20, 15, 17]
    assert checkpoint.to_resume_from(store).progress.update == checkpoint.newest(store).progress.update == 17
    assert checkpoint.newest(store, at_most=16).progress.update == 15
    store.write("checkpoints/update_000017/state.json", b"")
    assert checkpoint.newest(store).progress.update == 15
    assert "update_000017 is damaged" in caplog.text


def test_where_every_checkpoint_is_damaged_there_is_none(tmp_path: Path):
    store = Store(str(tmp_path))
    saved(store, 1, 2)
    for folder in (tmp_path / "checkpoints").iterdir():
        truncate(folder / "ema.safetensors")
    assert checkpoint.newest(store) is None


def test_a_damaged_checkpoint_is_written_anew(store: Store):
    saved(store, 1, 2)
    store.write("checkpoints/update_000002/model.safetensors", b"")
    store.write("checkpoints/update_000002/left_over", b"")
    learner = saved(store, 1, 2)
    restored = new_learner()
    learner_state.restore(restored, checkpoint.newest(store))
    assert_same(restored, learner)
    assert sorted(store.names("checkpoints/update_000002")) == sorted(FILES)


def test_a_folder_that_was_not_finished_is_no_checkpoint(tmp_path: Path):
    store = Store(str(tmp_path))
    saved(store, 1)
    (tmp_path / "checkpoints" / "update_000001").rename(tmp_path / "checkpoints" / "update_000009.unfinished")
    saved(store, 2)
    assert checkpoint.names(store) == ["update_000002"]
    assert checkpoint.newest(store).progress.update == 2


def test_a_checkpoint_that_was_whole_but_for_its_name_gets_it(tmp_path: Path):
    """Killed between the two renamings that put a checkpoint in the place of another."""
    store, folder = Store(str(tmp_path)), tmp_path / "checkpoints"
    learner = saved(store, 1, 2)
    (folder / "update_000001").rename(folder / "update_000001.discarded")
    (folder / "update_000002").rename(folder / "update_000002.unfinished")
    (folder / "update_000003.unfinished").mkdir()
    checkpoint.complete_left_overs(store)
    assert checkpoint.names(store) == ["update_000002"]
    restored = new_learner()
    learner_state.restore(restored, checkpoint.newest(store))
    assert_same(restored, learner)


def test_a_write_that_is_cut_short_leaves_the_checkpoint_before_in_place(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    saved(store, 1)
    learner, write = new_learner(), type(store).write

    def cut_short(self: Store, name: str, content: bytes) -> None:
        if name.endswith("starts.safetensors"):
            raise OSError("No space left on device")
        write(self, name, content)

    monkeypatch.setattr(type(store), "write", cut_short)
    with pytest.raises(OSError, match="No space"):
        learner_state.save(store, learner, STARTS, Progress(update=2))
    assert checkpoint.newest(store).progress.update == 1
    assert store.names("checkpoints") == ["update_000001"], "a full disk needs the room"


# Which there are


def test_pruning_keeps_the_newest(store: Store):
    learner = new_learner()
    for update in (2, 10, 999_999, 1_000_000):  # the names of the last two sort the other way round
        learner_state.save(store, learner, STARTS, Progress(update=update))
    assert checkpoint.newest(store).progress.update == 1_000_000
    retention.prune(store, 2)
    assert checkpoint.names(store) == ["update_999999", "update_1000000"]
    retention.prune(store, 5)
    assert len(checkpoint.names(store)) == 2


def test_a_new_run_has_no_checkpoint(store: Store):
    assert checkpoint.names(store) == [] and checkpoint.newest(store) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("network.channels=[5]", "(4,) in it but (5,)"),
        ("network.channels=[4,4]", "absent"),
        ("network.norm=none", "another architecture"),
        ("grids.sizes=[2,4]", "another architecture"),
    ],
)
def test_a_checkpoint_of_another_architecture_says_what_differs(store: Store, change: str, words: str):
    saved(store, 1)
    with pytest.raises(
        UserError, match="another architecture.*config it was trained with, or another --name"
    ) as caught:
        learner_state.restore(new_learner(change), checkpoint.newest(store))
    assert words in str(caught.value)


def test_a_checkpoint_with_more_grids_than_the_config_is_of_another_architecture(store: Store):
    saved(store, 1)
    with pytest.raises(UserError, match="another architecture"):
        learner_state.restore(new_learner("grids.sizes=[2]"), checkpoint.newest(store))


def test_a_checkpoint_states_who_wrote_it(store: Store):
    saved(store, 1)
    versions = json.loads(checkpoint.newest(store).files["state.json"])["versions"]
    assert versions["torch"] == torch.__version__ and {"python", "distmgcd"} <= versions.keys()
