"""Damage on the disk between two commands: the run goes on from what is whole, or says that nothing is."""

from pathlib import Path

import pytest
from tiny_runs import TINY, Stopped, debug, state_of, stop_after


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    debug(folder)
    return folder


def flip_a_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def cut_after_update_5(folder: Path) -> Path:
    with pytest.raises(Stopped):
        debug(folder, show=stop_after(5))
    return folder / "run" / "checkpoints"


def go_on(command, folder: Path) -> tuple[int, str, str]:
    return command("debug", TINY, "--storage-path", folder, "--name", "run", "--cpu")


@pytest.mark.parametrize("damage", [flip_a_byte, truncate])
@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "state.json", "checksums.json"])
def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one_and_ends_as_if_undisturbed(
    command, tmp_path: Path, undisturbed: Path, damage, file: str
):
    damage(cut_after_update_5(tmp_path) / "update_000004" / file)
    status, out, _ = go_on(command, tmp_path)
    assert status == 0 and "update_000004 is damaged" in out and "Going on from the checkpoint of update 2." in out
    ours, theirs = state_of(tmp_path), state_of(undisturbed)
    assert not [name for name, value in theirs.items() if not ours[name].equal(value)]
    assert command("verify", tmp_path / "run")[0] == 0


@pytest.mark.parametrize("how", ["debug", "train"])
def test_where_every_checkpoint_is_damaged_the_run_does_not_start_again_in_silence(command, tmp_path: Path, how: str):
    checkpoints = cut_after_update_5(tmp_path)
    for folder in checkpoints.iterdir():
        flip_a_byte(folder / "ema.safetensors")
    status, _, err = command(how, TINY, "--storage-path", tmp_path, "--name", "run", "--cpu")
    assert status == 2 and err.count("\n") == 1
    assert "Every checkpoint of the run" in err and "update_000002, update_000004" in err
    assert f"delete {checkpoints} to start again from update 0" in err

    import shutil

    shutil.rmtree(checkpoints)  # the way out
    assert go_on(command, tmp_path)[0] == 0


def test_an_object_store_whose_first_checkpoint_was_cut_short_starts_again(tmp_path: Path):
    from distmgcd.runs import checkpoint
    from distmgcd.runs.store import Store

    store = Store("memory://cut/short")
    store.write("checkpoints/update_000002/model.safetensors", b"half")
    assert checkpoint.to_resume_from(store) is None
