"""The command lines that the manifests run, and tell to run, read by distmgcd itself: a renamed flag breaks them."""

from pathlib import Path
from typing import Any

import pytest
import typer
from manifests import CLUSTER, LAUNCHER_FILES, OVERLAYS, ROOT, TEXT_FILES, commands_in, submissions_in

import distmgcd.cli  # noqa: F401  (it adds the commands)
from distmgcd.cli.common import app, split
from distmgcd.config import load_config
from distmgcd.sweep.file import read_sweep, sweep_names
from distmgcd.workers.num_workers import parse_workers

MANIFESTS = [
    *LAUNCHER_FILES,
    *(overlay / ("kustomization.yaml" if overlay.name.startswith("cluster") else "job.yaml") for overlay in OVERLAYS),
    CLUSTER / "slurm" / "run.sbatch",
    CLUSTER / "compose.yaml",
]
COMMANDS = [(file, arguments) for file in TEXT_FILES for arguments in commands_in(file)]
SUBMISSIONS = [(file, arguments) for file in TEXT_FILES for arguments in submissions_in(file)]
SHARED = ("/shared/", "s3://BUCKET/", "gs://BUCKET/")  # what every machine sees


def name_of(case: Any) -> str:
    return str(case.relative_to(CLUSTER)) if isinstance(case, Path) else case[0]


def parse(arguments: list[str]) -> dict[str, Any]:
    """What typer makes of `distmgcd ARGUMENTS`, without running it; typer's own error for what it does not know."""
    name, *rest = arguments
    return typer.main.get_command(app).commands[name].make_context(name, rest).params


@pytest.mark.parametrize("manifest", MANIFESTS, ids=name_of)
def test_every_manifest_has_a_command_line_that_is_read_here(manifest):
    assert commands_in(manifest)


@pytest.mark.parametrize(("file", "arguments"), COMMANDS, ids=name_of)
def test_a_command_line_has_flags_presets_and_settings_that_exist(file, arguments):
    given = parse(arguments)
    if arguments[0] == "train":
        parse_workers(given["workers"])
        load_config(*split(given["settings"]))
    else:
        sweep, *settings = given["settings"]
        read_sweep(sweep if sweep in sweep_names() else str(ROOT / sweep), settings)


@pytest.mark.parametrize(("file", "arguments"), COMMANDS, ids=name_of)
def test_runs_go_to_and_data_come_from_where_every_node_sees_them(file, arguments):
    given = parse(arguments)
    paths = [setting.removeprefix("data.path=") for setting in given["settings"] if setting.startswith("data.path=")]
    for path in [given["storage_path"], *paths]:
        assert path.startswith(SHARED), f"{file}: {path}"
    assert paths or not {"cifar10", "fashion16"} & {Path(word).stem for word in given["settings"]}


@pytest.mark.parametrize(("file", "arguments"), SUBMISSIONS, ids=name_of)
def test_submissions_go_through_a_tunnel_on_this_machine(file, arguments):
    assert arguments[arguments.index("--address") + 1].startswith("http://127.0.0.1:")
    if "submit" in typer.main.get_command(app).commands:
        parse(["submit", *arguments])


def test_a_flag_or_setting_that_does_not_exist_is_found():
    _, arguments = next(case for case in COMMANDS if "--cpus-per-worker" in case[1])
    with pytest.raises(Exception, match="No such option"):
        parse([argument.replace("--cpus-per-worker", "--cpus-a-worker") for argument in arguments])
    with pytest.raises(Exception, match=r"learning\.rate"):
        load_config("digits", ["learning.rate=1"])
