"""What commands say beside their work: about options that there are not, versions, settings, and commands to copy."""

import re
import shlex
from pathlib import Path

import pytest
from places import ROOT
from tiny_runs import TINY, debug

from distmgcd.config import setting_paths
from distmgcd.sweep.file import SWEEPS, read_sweep, sweep_names


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["train", "--resume"],
            "train has no option --resume: the same command under the same --name goes on by itself",
        ),
        (["debug", "--resume", "x"], "debug has no option --resume: the same command under the same --name goes on"),
        (["compare", "--resume"], "compare has no option --resume: the same command under the same --name goes on"),
        (["features", "runs/x", "--resume"], "features has no option --resume: the same command goes on where it"),
        (["debug", "digits", "--langevin.num_steps=3"], "give langevin.num_steps=VALUE."),
        (
            ["debug", "--lr", "3"],
            "debug has no option --lr; settings have no dashes: give learning.learning_rate=VALUE.",
        ),
        (["debug", "--epochs", "3"], "give learning.num_updates=VALUE."),
        (["train", "--batch-size", "3"], "give learning.global_batch_size=VALUE."),
        (["debug", "--device", "cuda"], "debug has no option --device: give --gpu or --cpu."),
        (["config", "--seed", "1"], "config has no option --seed; settings have no dashes: give seed=VALUE."),
        (["submit", "--", "train", "--resume"], "train has no option --resume"),
        (["debug", "--resume"], "debug has no option --resume: the same command"),  # though --rate-scale is near
    ],
)
def test_an_option_of_other_trainers_is_met_with_what_is_given_here(command, arguments: list[str], said: str):
    status, out, err = command(*arguments)
    assert (status, out) == (2, "") and err.startswith("distmgcd: ") and said in err and err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [["train", "--wrokers", "2"], ["sample", "run", "--epochs", "2"], ["--resume"], ["debug", "--workers", "2"]],
)
def test_any_other_unknown_option_is_answered_by_the_parser(command, arguments: list[str]):
    status, _, err = command(*arguments)
    assert status == 2 and "No such option" in err and "Traceback" not in err


def test_the_version_is_shown_with_those_that_matter(command):
    status, out, err = command("--version")
    assert (status, err) == (0, "") and re.fullmatch(r"distmgcd \S+ \(Python \S+, torch \S+, ray \S+\)\n", out)


def test_a_setting_is_explained_on_the_command_line(command):
    status, out, err = command("config", "--explain", "langevin.step_size")
    assert (status, err) == (0, "") and out.startswith("langevin.step_size\n  meaning   ") and "here" not in out
    _, out, _ = command("config", TINY, "seed=4", "--explain", "langevin.num_steps")
    assert out.endswith("\n  default   20\n  here      2\n")
    of_section = [path for path in setting_paths() if path.startswith("langevin.")]
    assert command("config", "--explain", "langevin")[1].count("\n  rule ") == len(of_section) > 1
    status, _, err = command("config", "--explain", "learning.lr")
    assert status == 2 and "did you mean 'learning.learning_rate'?" in err


# Commands to copy


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose name a shell would take apart, with a finished run."""
    folder = tmp_path_factory.mktemp("my runs [1]")
    debug(folder, name="a run")
    return folder


def commands_in(out: str) -> list[list[str]]:
    """The words of each printed command, as a shell reads them; without what stands in brackets after it."""
    found = re.findall(r"^\w[\w ]+? {2,}((?:distmgcd|tensorboard) .*?)(?: \(.*)?$", out, re.MULTILINE)
    return [shlex.split(line) for line in found]


def test_a_finished_run_says_that_nothing_was_done_and_prints_commands_that_a_shell_reads(command, storage: Path):
    status, out, err = command("debug", TINY, "--storage-path", storage, "--name", "a run", "--cpu")
    assert (status, err) == (0, "") and "Finished" not in out and "fresh samples" in out
    assert re.search(r"The run .*/a run was finished before \(6 updates in \d+ s of training\); nothing was done", out)
    tensorboard, sample = commands_in(out)
    assert tensorboard == ["tensorboard", "--logdir", str(storage)]
    assert sample[:3] == ["distmgcd", "sample", f"{storage}/a run"]
    status, out, _ = command("debug", TINY, "seed=1", "--storage-path", storage, "--name", "another", "--cpu")
    assert status == 0 and "Finished 6 updates in" in out and "finished before" not in out


def test_a_run_is_listed_by_its_own_folder(command, storage: Path, monkeypatch: pytest.MonkeyPatch):
    status, out, err = command("runs", storage / "a run")
    title, line = out.splitlines()
    assert (status, err) == (0, "") and title.startswith("run ") and re.match(r"a run  finished +6/6 ", line)
    monkeypatch.chdir(storage / "a run")
    assert command("runs", ".")[1].splitlines()[1].startswith(". ")


def test_where_runs_lie_one_folder_deeper_that_folder_is_named(command, storage: Path, tmp_path: Path):
    (tmp_path / "a sweep").mkdir()
    (tmp_path / "a sweep" / "trials").symlink_to(storage)
    _, out, _ = command("runs", tmp_path / "a sweep")
    assert (
        out == f"There are no runs in {tmp_path}/a sweep. Those below it: distmgcd runs '{tmp_path}/a sweep/trials'\n"
    )


def test_a_run_that_is_named_without_its_folder_is_found_beside(command, tmp_path: Path, storage: Path, monkeypatch):
    (tmp_path / "runs").symlink_to(storage)
    monkeypatch.chdir(tmp_path)
    status, _, err = command("sample", "a run")
    assert status == 2 and "There is no run at a run (did you mean runs/a run?)" in err


# Sweeps by name


def test_a_sweep_is_read_by_its_name_wherever_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert "smoke" in sweep_names() and read_sweep("smoke").name == "smoke"
    assert read_sweep("smoke") == read_sweep(str(SWEEPS / "smoke.yaml"))


def test_the_sweeps_of_the_package_are_those_of_the_checkout():
    assert SWEEPS.resolve() == ROOT / "tune_configs" and SWEEPS.is_symlink()
    assert '"presets/sweeps/*.yaml"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize("command_name", ["tune", "compare"])
def test_a_wrong_change_of_the_command_line_is_no_mistake_of_the_file(command, command_name: str):
    status, _, err = command(command_name, "smoke" if command_name == "tune" else "digits", "lr=3")
    assert status == 2 and err.startswith("distmgcd: There is no setting 'lr' (did you mean 'learning.learning_rate'?)")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("smok", "There is no sweep 'smok' (did you mean 'smoke'?); there are "),
        ("tune_configs/smoke.yaml", "does not exist; `distmgcd tune smoke` runs the one that we have."),
        ("mine.yaml", "The file mine.yaml cannot be read"),
    ],
)
def test_a_sweep_that_is_not_there_is_one_sentence(command, tmp_path: Path, monkeypatch, source: str, said: str):
    monkeypatch.chdir(tmp_path)
    status, out, err = command("tune", source)
    assert (status, out) == (2, "") and said in err and err.count("\n") == 1
