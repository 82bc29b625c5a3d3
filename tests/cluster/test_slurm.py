"""The batch script: what it asks of Slurm, and the whole of it on a Slurm of two nodes on this machine."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from manifests import CLUSTER, ROOT
from places import TESTS
from ray.scripts.scripts import cli
from tiny_runs import TINY

SCRIPT = CLUSTER / "slurm" / "run.sbatch"
NEEDED = ("slurmctld", "slurmd", "sbatch", "munged", "ip", "unshare")


def stub(folder: Path, name: str, shell: str) -> None:
    file = folder / name
    file.write_text(f"#!/bin/sh\n{shell}\n")
    file.chmod(0o755)


def run_with_stubs(
    tmp_path: Path, *arguments: str, srun: str, pkill: str = "exit 1"
) -> tuple[subprocess.CompletedProcess, list[str]]:
    """(what came of the script, the arguments that srun got), with commands of our own for Slurm's, and for pkill.

    pkill must never be the real one: the script takes its node for its own, and this machine has other runs.
    """
    stub(tmp_path, "pkill", pkill)
    stub(tmp_path, "srun", f'printf "%s\\n" "$@" > {tmp_path}/asked; env > {tmp_path}/environment; {srun}')
    stub(tmp_path, "scontrol", f'echo "$@" > {tmp_path}/scontrol.asked')
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "HEAD_IP": "10.0.0.1",
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_CPUS_ON_NODE": "16",
    }
    done = subprocess.run(["bash", SCRIPT, *arguments], env=environment, capture_output=True, text=True, timeout=60)
    asked = tmp_path / "asked"
    return done, asked.read_text().splitlines() if asked.exists() else []


def test_srun_starts_ray_on_every_node_and_the_command_as_it_was_given(tmp_path: Path):
    done, asked = run_with_stubs(tmp_path, "train", "digits", "--name", "a b", srun="exit 3")
    assert done.returncode == 3  # that of the command is that of the job
    ray = asked[asked.index("ray") :]
    separator = ray.index("--")
    assert ray[separator + 1 :] == ["distmgcd", "train", "digits", "--name", "a b"]
    given = cli.commands["symmetric-run"].make_context("symmetric-run", ray[2:separator]).params
    assert (given["address"], given["min_nodes"]) == ("10.0.0.1:6379", 2)
    start = cli.commands["start"].make_context("start", list(given["ray_args_and_entrypoint"])).params
    assert start["num_cpus"] == 16 and start["dashboard_host"] == "127.0.0.1"
    environment = (tmp_path / "environment").read_text().splitlines()
    assert {"RAY_AUTH_MODE=token", "RAY_ADDRESS=10.0.0.1:6379"} <= set(environment)


def test_when_time_is_up_the_command_is_asked_to_save_and_the_job_waits_again(tmp_path: Path):
    pkill = f'echo "$@" > {tmp_path}/pkill.asked'
    run_with_stubs(tmp_path, "train", "digits", srun="kill -USR1 $PPID; sleep 1; exit 143", pkill=pkill)
    assert shlex.split((tmp_path / "pkill.asked").read_text())[-1] == "distmgcd"
    assert (tmp_path / "scontrol.asked").read_text() == "requeue 7\n"


def test_a_job_whose_command_has_not_started_when_time_is_up_waits_again_too(tmp_path: Path):
    run_with_stubs(tmp_path, "train", "digits", srun="kill -USR1 $PPID; sleep 1; exit 1", pkill="exit 1")  # found none
    assert (tmp_path / "scontrol.asked").read_text() == "requeue 7\n"


def test_nothing_to_run_is_a_mistake_that_is_explained(tmp_path: Path):
    done, asked = run_with_stubs(tmp_path, srun="exit 0")
    assert done.returncode == 2 and "say what to run" in done.stderr and not asked


def test_ray_of_the_installed_version_has_what_the_script_relies_on():
    from ray.scripts import symmetric_run

    assert "RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT" in SCRIPT.read_text()
    assert "RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT" in Path(symmetric_run.__file__).read_text()


# Submits, tells the job that its time is up once it trains, waits for its end, and submits one that must fail.
SESSION = """
set -e
mkdir -p "$HOME"
ray get-auth-token --generate > /dev/null 2>&1
job=$(sbatch --parsable --time=20 "$SCRIPT" train "$TINY" --workers 2 --cpu --storage-path "$PWD/runs" --name run \
    learning.num_updates=200 checkpoint.every=200)
until grep -q '"update": 5,' runs/run/log/metrics.jsonl 2> /dev/null; do sleep 0.5; done
scancel --signal=USR1 --batch "$job"
until scontrol show job "$job" | grep -q 'JobState=PENDING'; do sleep 0.5; done
ls runs/run/checkpoints > saved
until scontrol show job "$job" | grep -q 'JobState=\\(COMPLETED\\|FAILED\\|NODE_FAIL\\)'; do sleep 0.5; done
scontrol show job "$job" | grep -o 'JobState=[A-Z_]*\\|ExitCode=[0-9:]*' > ended
status=0
sbatch --wait --time=20 "$SCRIPT" train digits --storage-path "$PWD/runs" learning.num_update=3 || status=$?
echo "$status" > status
"""


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="namespaces and munge need root")
@pytest.mark.skipif(
    not all(map(shutil.which, NEEDED)), reason=f"Slurm is not installed (Debian: {', '.join(NEEDED)} are needed)"
)
def test_a_real_slurm_trains_on_two_nodes_goes_on_after_the_time_limit_and_tells_failure(tmp_path: Path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "SLURM_"))}
    environment |= {
        "HOME": str(tmp_path / "home"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "SCRIPT": str(SCRIPT),
        "TINY": str(TINY),
        "RAY_gcs_rpc_server_reconnect_timeout_s": "30",  # for a head that has ended; longer than `ray stop` takes
    }
    here = TESTS / "cluster" / "slurm_here.sh"
    command = ["bash", str(here), str(tmp_path), "bash", "-c", SESSION]
    subprocess.run(command, env=environment, check=True, timeout=900)
    record = [json.loads(line) for line in (tmp_path / "runs/run/log/metrics.jsonl").read_text().splitlines()]
    updates = [line["update"] for line in record if "grids" in line]
    saved = [int(name.removeprefix("update_")) for name in (tmp_path / "saved").read_text().split()]
    assert 5 <= max(saved) < 200  # where it was, though checkpoint.every says only at the end
    assert updates == list(range(1, 201)) and {line["num_workers"] for line in record if "grids" in line} == {2}
    assert (tmp_path / "ended").read_text().split() == ["JobState=COMPLETED", "ExitCode=0:0"]
    log = "".join(file.read_text() for file in tmp_path.glob("distmgcd-*.node0.log"))
    assert "ip=10.77.0.11" in log and "ip=10.77.0.12" in log  # a worker on each
    assert (tmp_path / "status").read_text().strip() == "2" and "learning.num_updates" in log
