"""Runs, a sweep and a comparison that an earlier version wrote still load, resume and report: see old_runs/README.md.

Only commands and the public API are used here, so that a change of what is inside cannot change these tests.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import log_of, records_of, result_of

import distmgcd

OLD = Path(__file__).parent / "old_runs"
PERSISTENT = (
    "start.kind=persistent",
    "grids.sizes=[4]",
    "learning.global_batch_size=512",
    "checkpoint.keep=1",
    "checkpoint.keep_best=0",
)
TOLERANCE = 1e-4  # of fp32 on another machine
BEST = "best           trial_0001  step_size=0.5"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the old folders, and the current one."""
    shutil.copytree(OLD, tmp_path / "old")
    monkeypatch.chdir(tmp_path / "old")
    monkeypatch.setenv("COLUMNS", "160")
    return tmp_path / "old"


def resume(command, name: str, *changes: str) -> str:
    """`distmgcd debug` of this run with the settings it was made with; returns what it says."""
    status, out, err = command("debug", "tiny.yaml", "--name", name, "--cpu", "evaluate.every=3", *changes)
    assert status == 0, err
    return out + err


def updates_of(folder: Path, name: str) -> list[int]:
    return [record["update"] for record in records_of(folder / "runs", name) if "grids" in record]


def numbers_at(folder: Path, name: str, update: int) -> dict[str, dict[str, float]]:
    """What the log says of every grid at an update."""
    return next(r["grids"] for r in records_of(folder / "runs", name) if "grids" in r and r["update"] == update)


def swd_rows(table: str) -> list[str]:
    return [line for line in table.splitlines() if line.startswith(("| multigrid |", "| single |", "| data "))]


def tune(*arguments: str) -> str:
    """`distmgcd tune sweep.yaml --resume`, in a process of its own, which may have Ray; returns what it says."""
    command = [sys.executable, "-m", "distmgcd.cli", "tune", "sweep.yaml", "--cpu", "--resume", *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_A")}
    environment["PYTHONPATH"] = os.pathsep.join([str(OLD.parent.parent), environment.get("PYTHONPATH", "")])
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("run", "which", "means", "pixels"),
    [
        ("runs/finished", "end", (-0.536823, -0.545975, -0.483203, -0.522790), (-0.671353, -0.881600, -0.969610)),
        ("runs/finished", "3", (-0.536620, -0.545786, -0.483112, -0.522597), (-0.671245, -0.881038, -0.969567)),
        ("runs/stopped", "newest", (-0.536804, -0.545958, -0.483196, -0.522772), (-0.671338, -0.881543, -0.969605)),
        (
            "sweeps/sweep/trials/trial_0001",
            "end",
            (-0.482531, -0.497271, -0.404603, -0.462376),
            (-0.518778, -0.598496, -0.624202),
        ),
    ],
)
def test_a_run_loads_and_draws_the_samples_that_it_drew(
    run: str, which: str, means: tuple[float, ...], pixels: tuple[float, ...]
):
    samples = distmgcd.load(run, which=which, device="cpu").sample(4)
    assert samples.mean((1, 2, 3)).tolist() == pytest.approx(means, abs=TOLERANCE)
    assert samples[0, 0, 0, :3].tolist() == pytest.approx(pixels, abs=TOLERANCE)


def test_a_stopped_run_resumes_and_ends_where_an_unbroken_one_did(folder: Path, command):
    out = resume(command, "stopped")
    assert "checkpoint of update 5" in out
    assert updates_of(folder, "stopped") == [1, 2, 3, 4, 5, 6] and result_of(folder / "runs", "stopped")["update"] == 6
    _assert_close(numbers_at(folder, "stopped", 6), numbers_at(folder, "finished", 6))
    _assert_close(*(result_of(folder / "runs", name)["swd"] for name in ("stopped", "finished")))
    ours, theirs = (folder / "runs" / name / "checkpoints" / "update_000006" for name in ("stopped", "finished"))
    for file in ("model", "ema", "optimizer", "starts"):
        found, expected = (load_file(checkpoint / f"{file}.safetensors") for checkpoint in (ours, theirs))
        assert found.keys() == expected.keys()
        for name in expected:
            torch.testing.assert_close(found[name], expected[name], rtol=TOLERANCE, atol=1e-5)


def test_persistent_chains_go_on_from_where_they_were(folder: Path, command):
    """Images come again by then: with chains that began anew, these numbers would be others."""
    resume(command, "persistent", *PERSISTENT)
    assert updates_of(folder, "persistent") == [1, 2, 3, 4, 5, 6]
    _assert_close(
        numbers_at(folder, "persistent", 6)["4"],
        {"gap": 0.950038, "energy_observed": 0.126958, "drift": 0.133712, "gradient_norm": 2.167638},
    )
    _assert_close(
        result_of(folder / "runs", "persistent")["swd"], {"samples": {"4": 0.493811}, "bank": {"4": 0.563589}}
    )


def test_a_finished_run_says_so_and_can_be_made_longer(folder: Path, command):
    before = (folder / "runs" / "finished" / "result.json").read_bytes()
    resume(command, "finished")
    assert (folder / "runs" / "finished" / "result.json").read_bytes() == before
    resume(command, "finished", "learning.num_updates=8")
    assert updates_of(folder, "finished") == list(range(1, 9))
    assert (folder / "runs" / "finished" / "result_000006.json").read_bytes() == before


def test_a_log_that_goes_on_keeps_its_lines(folder: Path, command):
    before = log_of(folder / "runs", "stopped")
    resume(command, "stopped")
    after = log_of(folder / "runs", "stopped")
    assert after[: len(before)] == before and len(after) > len(before)


@pytest.mark.parametrize(
    "run", ["runs/finished", "runs/stopped", "runs/persistent", *(f"sweeps/sweep/trials/trial_000{n}" for n in (1, 3))]
)
def test_verify_finds_a_run_whole_and_sees_damage(run: str, folder: Path, command):
    status, out, err = command("verify", run)
    assert status == 0 and "ok      update_0000" in out + err and "DAMAGED" not in out + err
    file = max((folder / run / "checkpoints").iterdir()) / "ema.safetensors"
    *rest, last = file.read_bytes()
    file.write_bytes(bytes([*rest, last ^ 1]))
    status, out, err = command("verify", run)
    assert status == 1 and "DAMAGED" in out + err


def test_runs_lists_them(command):
    def listed(path: str) -> dict[str, list[str]]:
        """{name of a run: its state, update and distance}."""
        status, out, err = command("runs", path)
        assert status == 0, err
        return {words[0]: words[1:4] for line in out.splitlines() if len(words := line.split()) > 4}

    runs = listed("runs")
    assert runs["finished"] == ["finished", "6/6", "453.1"] and runs["stopped"] == ["stopped", "5/6", "453.4"]
    assert runs["persistent"] == ["stopped", "5/6", "-"]
    trials = listed("sweeps/sweep/trials")
    assert trials["trial_0001"] == ["finished", "8/8", "385.4"] and trials["trial_0003"][0] == "finished"
    assert trials["trial_0002"] == ["diverged", "0/8", "-"]


@pytest.mark.parametrize("lost", [(), ("results.parquet",)])
def test_a_sweep_is_reported_with_the_same_best_trial(lost: tuple[str, ...], folder: Path, command):
    sweep = folder / "sweeps" / "sweep"
    best = distmgcd.load_config(str(sweep / "best.yaml"))
    for name in ("report.html", "best.yaml", "best_samples.png", *lost):
        (sweep / name).unlink()
    status, out, err = command("report", sweep)
    assert status == 0, err
    assert distmgcd.load_config(str(sweep / "best.yaml")) == best and best.langevin.step_size == 0.5
    assert (sweep / "best_samples.png").exists() and (sweep / "results.parquet").exists()
    assert all(name in (sweep / "report.html").read_text() for name in ("trial_0001", "trial_0002", "trial_0003"))
    assert "2 finished, 1 diverged" in out and "385.4" in out and "435.6" in out


def test_a_finished_sweep_prints_its_result_again(folder: Path):
    trials = sorted((folder / "sweeps" / "sweep" / "trials").rglob("metrics.jsonl"))
    before = [trial.read_bytes() for trial in trials]
    out = tune()
    assert "3 trials: 2 finished, 1 diverged." in out and BEST in out
    assert [trial.read_bytes() for trial in trials] == before


@pytest.mark.slow
def test_a_sweep_goes_on_with_one_trial_more():
    out = tune("--trials", "4")
    assert "trial_0004 starts" in out and "trial_0001 starts" not in out
    assert "4 trials: " in out and BEST in out


def test_an_evaluation_is_added_to_the_earlier_record(folder: Path, command):
    (file,) = (folder / "runs" / "finished" / "evaluation").glob("*.json")
    before: dict[str, Any] = json.loads(file.read_text())
    # A record is of one version of everything; let it be of those that are here.
    versions = {"distmgcd": distmgcd.__version__, "torch": torch.__version__, "python": platform.python_version()}
    before["identity"]["versions"] = versions
    file.write_text(json.dumps(before))
    how = ("--cpu", "--features", "pixels", "--num", "20")
    status, out, err = command("evaluate", "runs/finished", *how, "--metrics", "swd,pr")
    assert status == 0, err
    assert "fd of before" in out
    after = json.loads(file.read_text())
    assert after["results"]["fd"] == before["results"]["fd"] and "pr" in after["results"]
    _assert_close(*(record["results"]["swd"]["samples"] for record in (after, before)))


def test_a_comparison_writes_its_table_again_and_trains_nothing(folder: Path, command):
    comparison = folder / "comparisons" / "plan"
    table, results = (comparison / "table.md").read_text(), json.loads((comparison / "results.json").read_text())
    logs = {file: file.read_bytes() for file in comparison.rglob("metrics.jsonl")}
    for name in ("table.md", "results.json", "samples.png"):
        (comparison / name).unlink()
    status, out, err = command("compare", "plan.yaml", "--cpu")
    assert status == 0, err
    assert len(swd_rows(table)) == 5 and swd_rows((comparison / "table.md").read_text()) == swd_rows(table)
    assert json.loads((comparison / "results.json").read_text())["methods"] == results["methods"]
    assert (comparison / "samples.png").exists() and "| multigrid | 382.0 |" in out
    assert len(logs) == 6 and {file: file.read_bytes() for file in comparison.rglob("metrics.jsonl")} == logs


def _assert_close(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Of all numbers that are expected; later versions may have more."""
    for name, value in expected.items():
        if isinstance(value, dict):
            _assert_close(found[name], value)
        else:
            assert found[name] == pytest.approx(value, rel=1e-3, abs=TOLERANCE), name
