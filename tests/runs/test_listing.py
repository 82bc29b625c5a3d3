"""`distmgcd runs` and `distmgcd verify` say how runs stand."""

import shutil
from pathlib import Path

import pytest
from tiny_runs import TINY, Stopped, debug, result_of, stop_after

from distmgcd.runs import lock
from distmgcd.runs.listing import summaries
from distmgcd.runs.store import Store
from distmgcd.training.divergence import Diverged


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs: finished; stopped after update 5, update 4 scored; early, with no checkpoint; wild, which diverged."""
    folder = tmp_path_factory.mktemp("made")
    debug(folder, name="finished")
    with pytest.raises(Stopped):
        debug(folder, "evaluate.every=4", name="stopped", show=stop_after(5))
    with pytest.raises(Stopped):
        debug(folder, name="early", show=stop_after(1))
    with pytest.raises(Diverged):
        debug(folder, "langevin.step_size=300", "langevin.clamp=none", "watch.max_retries=0", name="wild")
    return folder


@pytest.fixture
def runs(made: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    return Path(shutil.copytree(made, tmp_path / "runs"))


def by_name(folder: Path) -> dict:
    return {run.name: run for run in summaries(str(folder))}


def test_runs_are_listed_with_state_update_and_score(made: Path):
    found = by_name(made)
    assert {name: (run.state, run.update, run.num_updates) for name, run in found.items()} == {
        "early": ("stopped", 0, 6),
        "finished": ("finished", 6, 6),
        "stopped": ("stopped", 4, 6),
        "wild": ("diverged", 0, 6),
    }
    distances = result_of(made, "finished")["swd"]["samples"].values()
    assert found["finished"].score == pytest.approx(sum(distances) / 2)
    assert found["stopped"].score > 0 and found["early"].score is None
    files = [path for path in (made / "finished").rglob("*") if path.is_file()]
    assert found["finished"].num_bytes == sum(path.stat().st_size for path in files)
    written = max(path.stat().st_mtime for path in files)
    assert found["finished"].written.timestamp() == pytest.approx(written, abs=1e-3)


def test_a_run_that_goes_on_after_it_diverged_is_no_longer_diverged(runs: Path):
    with pytest.raises(Stopped):
        debug(runs, "langevin.step_size=300", "langevin.clamp=none", "watch.max_drift=1e9", "watch.max_gap=1e9",
              name="wild", show=stop_after(2))  # fmt: skip
    assert by_name(runs)["wild"].state == "stopped"


def test_a_run_under_way_is_running_and_counts_its_newest_record(runs: Path):
    with lock.locked(Store(str(runs / "stopped"))):
        run = by_name(runs)["stopped"]
        assert (run.state, run.update) == ("running", 5)
    assert by_name(runs)["stopped"].state == "stopped"


@pytest.mark.parametrize(
    ("name", "file", "content"),
    [
        ("finished", "result.json", "{"),
        ("finished", "result.json", "[1]"),
        ("finished", "config.yaml", "grids: ["),
        ("finished", "config.yaml", "1"),
        ("stopped", "checkpoints", None),
    ],
)
def test_what_cannot_be_read_is_damaged(runs: Path, name: str, file: str, content: str | None):
    if content is None:
        for checksums in (runs / name / file).glob("*/checksums.json"):
            checksums.unlink()
    else:
        (runs / name / file).write_text(content)
    assert by_name(runs)[name].state == "damaged"


def test_the_command_shows_a_table_and_leaves_out_what_is_no_run(runs: Path, command):
    (runs / "foreign").mkdir()
    (runs / "file").write_text("")
    status, out, err = command("runs", runs)
    lines = [line.split() for line in out.splitlines()]
    assert (status, err) == (0, "") and [line[0] for line in lines] == ["run", "early", "finished", "stopped", "wild"]
    assert lines[1][1:4] == ["stopped", "0/6", "-"] and lines[2][1:3] == ["finished", "6/6"]


def test_where_there_is_no_run_it_says_so(tmp_path: Path, command):
    for folder in (tmp_path, tmp_path / "nowhere", "memory://nowhere"):
        assert command("runs", folder) == (0, f"There are no runs in {folder}.\n", "")
    assert command("runs", "nosuch://x")[0] == 2


# verify


def test_a_run_that_is_whole_has_a_good_line_for_each_part(runs: Path, command):
    status, out, err = command("verify", runs / "finished")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["ok", name] for name in ("config.yaml", "update_000002:", "update_000004:", "update_000006:", "result.json:")
    ]
    assert "swd 2x2" in lines[3] and "swd" not in lines[2]
    assert "has not come to its end" in command("verify", runs / "stopped")[1]


def flip_a_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("file", "damage", "words"),
    [
        ("checkpoints/update_000004/ema.safetensors", flip_a_byte, "update_000004: the checksum of ema.safetensors"),
        ("checkpoints/update_000004/starts.safetensors", Path.unlink, "update_000004: FileNotFoundError"),
        ("result.json", lambda file: file.write_text("{"), "delete"),
        ("config.yaml", lambda file: file.write_text("{"), "config.yaml: The config of the run"),
        ("config.yaml", lambda file: file.write_text(file.read_text().replace("[4]", "[5]")), "another architecture"),
    ],
)
def test_damage_is_found_with_what_to_do(runs: Path, command, file: str, damage, words: str):
    damage(runs / "finished" / file)
    status, out, err = command("verify", runs / "finished")
    assert status == 1 and "is damaged" in err and err.count("\n") == 1
    bad = [line for line in out.splitlines() if line.startswith("DAMAGED")]
    assert bad and any(words in line for line in bad)
    assert all("put back a copy" in line or "delete" in line for line in bad)


def test_what_was_left_half_written_is_told_and_is_no_damage(runs: Path, command):
    (runs / "stopped" / "checkpoints" / "update_000006.unfinished").mkdir()
    status, out, _ = command("verify", runs / "stopped")
    assert status == 0 and "update_000006.unfinished: left half done" in out


def test_verify_of_what_is_no_run_is_one_sentence(tmp_path: Path, command):
    status, _, err = command("verify", tmp_path)
    assert status == 2 and "There is no run at" in err


@pytest.mark.parametrize(
    ("file", "words"), [("result.json", "The result of the run"), ("config.yaml", "The config of")]
)
def test_training_under_a_damaged_file_is_one_sentence(runs: Path, file: str, words: str, command, tmp_path: Path):
    (runs / "finished" / file).write_text("{")
    status, _, err = command("debug", TINY, "--storage-path", runs, "--name", "finished", "--cpu")
    assert status == 2 and words in err and "is damaged" in err and err.count("\n") == 1
