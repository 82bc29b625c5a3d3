"""What a trial tells Tune, without a Ray that runs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import TINY, records_of

from distmgcd.launch import start_run
from distmgcd.on_ray.train import driver as train_module
from distmgcd.on_ray.train.mailbox import RayMailbox
from distmgcd.on_ray.tune import trial_process
from distmgcd.on_ray.tune.trial_process import run_trial
from distmgcd.runs.read_log import read_log
from distmgcd.sweep.file import read_sweep
from distmgcd.sweep.parallel_trials import TrialResources
from distmgcd.sweep.plan import Scheduler, Sweep
from distmgcd.training.callbacks import Callbacks

TEXT = f"""\
base: {TINY}
budget: {{updates: 6, evaluations: 3, samples: 8}}
num_trials: 2
scheduler: {{kind: pbt}}
space: {{langevin.step_size: {{grid: [0.5, 0.6]}}}}
"""
TWO_WORKERS = TrialResources(concurrent=2, workers=2, threads=1, use_gpu=False)
ALONE = TrialResources(concurrent=2, workers=0, threads=1, use_gpu=False)


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    (tmp_path / "try.yaml").write_text(TEXT)
    return read_sweep(str(tmp_path / "try.yaml"))


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What Tune is told."""
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(trial_process.tune, "report", lambda metrics, checkpoint=None: told.append(metrics))
    monkeypatch.setattr(RayMailbox, "get", lambda self, key: None)
    return told


def settings_of(sweep: Sweep, number: int, **more: Any) -> dict[str, Any]:
    settings = {"number": number, "parameters": sweep.point(number), "kept": None, "reason": "", "start": {}}
    return {"trial": {"run": f"trial_{number:04d}", **settings, **more}}


def test_what_another_trial_went_through_is_not_told_again(
    tmp_path: Path, sweep: Sweep, reports: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
):
    """The log comes along with the other's checkpoint, but not its earlier checkpoints, which would be waited for."""
    config = sweep.config_of(sweep.point(1))
    start_run.debug(config, storage_path=str(tmp_path), name="trial_0001", use_gpu=False)

    def train_on_ray(config, run, *, followers, **_):
        assert reports == []
        start_run.debug(config, storage_path=str(tmp_path / "trained"), name="run", use_gpu=False)
        run.store.write("log/metrics.jsonl", (tmp_path / "trained/run/log/metrics.jsonl").read_bytes())
        run.store.write("checkpoints/update_000006/x", b"")
        for record in read_log(run.store):
            Callbacks(followers).on_record(record)

    monkeypatch.setattr(train_module, "train_on_ray", train_on_ray)
    monkeypatch.setattr(trial_process, "_wait_for", lambda condition, **_: condition() or pytest.fail("waits"))
    moved = settings_of(sweep, 2, run="trial_0002.2", start={"run": "trial_0001", "update": 4})
    run_trial(moved, sweep=sweep, location=str(tmp_path), resources=TWO_WORKERS, mailbox="b")
    assert [(report["updates"], report["state"]) for report in reports] == [(6, "finished")]


def test_workers_that_were_lost_are_told_with_the_next_report(
    tmp_path: Path, sweep: Sweep, reports: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
):
    def train_on_ray(config, run, *, followers, **_):
        why = "Rank 1 died (host h, process 3)."
        followers[0].on_event({"event": f"{why} Starting the workers again.", "failure": why})

    monkeypatch.setattr(train_module, "train_on_ray", train_on_ray)
    run_trial(settings_of(sweep, 1), sweep=sweep, location=str(tmp_path), resources=TWO_WORKERS, mailbox="b")
    assert [report["failures"] for report in reports] == [["Rank 1 died (host h, process 3)."]]


def test_a_trial_by_fd_tells_tune_that(tmp_path: Path, sweep: Sweep, reports: list[dict[str, Any]]):
    sweep = replace(sweep, objective="fd", features="pixels", scheduler=Scheduler())
    run_trial(settings_of(sweep, 1), sweep=sweep, location=str(tmp_path), resources=ALONE, mailbox="b")
    stated = [record["fd"]["FD-Pixels"] for record in records_of(tmp_path, "trial_0001") if "fd" in record]
    assert len(set(stated)) == 3 and [report["objective"] for report in reports] == stated
    assert reports[-1]["fd/FD-Pixels"] == stated[-1] and reports[-1]["swd/8"] > 0
    kept = settings_of(sweep, 1, kept="finished")  # as a sweep that goes on tells it again
    run_trial(kept, sweep=sweep, location=str(tmp_path), resources=ALONE, mailbox="b")
    assert [report["objective"] for report in reports[3:]] == stated


def test_a_trial_that_is_asked_to_stop_saves_and_goes_on_another_time(
    tmp_path: Path, sweep: Sweep, reports: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
):
    where = {"sweep": sweep, "location": str(tmp_path), "resources": ALONE, "mailbox": "b"}
    monkeypatch.setattr(RayMailbox, "get", lambda self, key: key == "stop")
    run_trial(settings_of(sweep, 1), **where)
    assert [(report["state"], report["done"]) for report in reports] == [("stopped", True)]
    assert not (tmp_path / "trial_0001" / "config.yaml").exists()
    monkeypatch.setattr(RayMailbox, "get", lambda self, key: None)
    run_trial(settings_of(sweep, 1), **where)
    assert [report["updates"] for report in reports[1:]] == [2, 4, 6] and reports[-1]["state"] == "finished"
