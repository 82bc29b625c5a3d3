"""Mistakes in a job's command line, found where it is typed: `command` has no Ray."""

import io
from pathlib import Path
from types import SimpleNamespace

import pytest
from sentences import assert_one_sentence
from tiny_runs import TINY

from distmgcd.cli import jobs
from distmgcd.cli.job_command import read_job_command
from distmgcd.errors import UserError

STORAGE = ("--storage-path", "/shared/runs")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with my.yaml in it."""
    (tmp_path / "here" / "sub").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    for name in ("my.yaml", "sub/my.yaml", "../there.yaml"):
        Path(name).write_text(TINY.read_text())
    Path("sweep.yaml").write_text(
        "base: digits\nbudget: {updates: 90, samples: 8}\nspace: {data.noise: {uniform: [0.1, 0.2]}}\n"
    )
    return tmp_path / "here"


MISTAKES = [
    (["sample", "runs/digits"], "A job must be one of train, tune"),
    (["evaluate", "pretrained:digits"], "--out runs/pretrained-NAME is a folder of this machine"),
    (["evaluate", "/shared/runs/digits", "--out", "results"], "--out results is a folder of this machine"),
    (["train", "digts", *STORAGE], "did you mean 'digits'?"),
    (["train", "digits", "langevin.num_stps=3", *STORAGE], "did you mean 'langevin.num_steps'?"),
    (["train", "digits", "--workers", "0", *STORAGE], "--workers must be at least 1"),
    (
        ["train", "digits", "--workers", "9", *STORAGE],
        "must divide learning.global_batch_size, but 9 does not divide 64",
    ),
    (["train", "digits", "--workers", "2:65", *STORAGE], "The most workers must not exceed learning.global_batch_size"),
    (["train", "digits", "--storage-path", ""], "--storage-path must be a folder or a URI, but is ''"),
    (["train", "digits", "--name", "", *STORAGE], "--name must be a plain folder name, but is ''"),
    (["train", "digits", "--name", "a/b", *STORAGE], "--name must be a plain folder name"),
    (["tune", "sweep.yaml", "--workers-per-trial", "9", *STORAGE], "but 9 does not divide 64"),
    (["tune", "sweep.yaml", "--name", "a/b", *STORAGE], "--name must be a plain folder name"),
    (["train", "digits"], "--storage-path runs is a folder of this machine"),
    (["tune", "sub/try.yaml", *STORAGE], "The file sub/try.yaml cannot be read"),
    (["train", "digits", "data.path=images", *STORAGE], "data.path images is a folder of this machine"),
    (["train", "digits", "data.path=torchvision:CIFAR10?root=here", *STORAGE], "data.path here is a folder of this"),
    (["train", "../there.yaml", *STORAGE], "lies outside the current folder"),
]


@pytest.mark.parametrize(("arguments", "said"), MISTAKES, ids=lambda value: str(value)[:40])
def test_a_mistake_is_one_sentence_before_anything_is_sent(command, folder: Path, arguments: list[str], said: str):
    status, out, err = command("submit", "--", *arguments)
    assert status == 2 and said in err and out == "", err
    assert_one_sentence(err)


def test_a_wrong_flag_is_found_by_the_parser_that_the_cluster_has(command, folder: Path):
    status, _, err = command("submit", "--", "train", "digits", "--wokers", "2", *STORAGE)
    assert status == 2 and "No such option: --wokers" in err


def test_an_image_brings_all_there_is(command, folder: Path):
    for options, said in ((["--installed"], "leave the other option out"), ([], "the command names my.yaml")):
        status, _, err = command("submit", "--image", "repo/image", *options, "--", "train", "my.yaml", *STORAGE)
        assert status == 2 and said in err
        assert_one_sentence(err)


def test_a_config_file_is_named_as_the_job_will_find_it(folder: Path):
    job = read_job_command(["train", str(folder / "sub" / "my.yaml"), "--workers", "1:2", *STORAGE], folder=folder)
    assert job.arguments == ("train", "sub/my.yaml", "--workers", "1:2", *STORAGE)
    assert job.metadata == {"command": "train", "preset": "sub/my.yaml", "name": "my", "update": "0"}


def test_a_sweep_brings_the_config_file_it_builds_on(folder: Path):
    (folder / "sub" / "try.yaml").write_text(
        "base: my.yaml\nbudget: {updates: 4, samples: 8}\nspace: {langevin.step_size: {uniform: [1, 2]}}\n"
    )
    (folder / "my.yaml").unlink()  # that beside the sweep is the one
    job = read_job_command(["tune", "sub/try.yaml", *STORAGE, "--name", "first"], folder=folder)
    assert job.files == ("sub/try.yaml", "sub/my.yaml") and job.name == "first"


def test_a_config_file_brings_those_it_builds_on(folder: Path):
    (folder / "sub" / "more.yaml").write_text("base: my.yaml\n")
    (folder / "most.yaml").write_text("base: sub/more.yaml\nseed: 3\n")
    (folder / "my.yaml").unlink()
    job = read_job_command(["train", "most.yaml", *STORAGE], folder=folder)
    assert job.files == ("most.yaml", "sub/more.yaml", "sub/my.yaml")
    (folder / "sub" / "more.yaml").write_text(f"base: {folder}/sub/my.yaml\n")
    with pytest.raises(UserError, match=r"sub/my.yaml of sub/more.yaml is a path of this machine; name the"):
        read_job_command(["train", "most.yaml", *STORAGE], folder=folder)


def test_a_sweep_of_the_package_is_named_and_no_file_of_this_machine(folder: Path):
    job = read_job_command(["tune", "smoke", *STORAGE], folder=folder)
    assert (job.preset, job.name, job.files) == ("smoke", "smoke", ())


def test_uris_and_whole_paths_are_the_clusters(folder: Path):
    job = read_job_command(
        ["train", "digits", "data.path=s3://bucket/images", "--storage-path", "s3://bucket/runs"], folder=folder
    )
    assert job.preset == job.name == "digits" and job.files == ()


class Interrupted:
    """A cluster whose job is being followed when Ctrl-C comes."""

    def __init__(self) -> None:
        self.stopped: list[str] = []
        self.num_followed = 0

    def follow(self, job: str, write) -> None:
        self.num_followed += 1
        if self.num_followed == 1:
            raise KeyboardInterrupt

    def stop(self, job: str) -> bool:
        self.stopped.append(job)
        return True

    def exit_status(self, job: str) -> int:
        return 143

    def details(self, job: str) -> SimpleNamespace:
        return SimpleNamespace(status="STOPPED", driver_exit_code=None, message="Job was intentionally stopped.")


@pytest.mark.parametrize(
    ("on_terminal", "answer", "status", "stopped"),
    [(True, "y\n", 143, ["a"]), (True, "\n", 130, []), (True, "", 130, []), (False, "y\n", 130, [])],
    ids=["asked to stop", "asked to leave", "does not answer", "nobody to ask"],
)
def test_ctrl_c_asks_a_person_and_leaves_the_job_where_there_is_none(
    monkeypatch: pytest.MonkeyPatch, capsys, on_terminal: bool, answer: str, status: int, stopped: list[str]
):
    stdin = io.StringIO(answer)
    stdin.isatty = lambda: on_terminal
    monkeypatch.setattr("sys.stdin", stdin)
    cluster = Interrupted()
    with pytest.raises(SystemExit) as end:
        jobs._follow(cluster, "a")
    said = capsys.readouterr().err
    assert end.value.code == status and cluster.stopped == stopped
    assert said.startswith("distmgcd: Job a goes on. " if not stopped else "distmgcd: Job a stopped"), said


def test_a_pretrained_model_may_be_named_for_it_goes_with_the_package(folder: Path):
    job = read_job_command(["evaluate", "pretrained:digits", "--out", "/shared/results"], folder=folder)
    assert job.arguments[1] == "pretrained:digits"
    read_job_command(["train", "digits", "--from", "pretrained:digits", *STORAGE], folder=folder)
