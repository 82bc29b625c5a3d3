"""A user's callback is called with the right things in the right order, may stop a run, and may fail."""

from pathlib import Path
from typing import Any

import pytest
import torch
from recording_callback import Recorder, noted
from tiny_runs import debug as debug_tiny
from tiny_runs import log_of, records_of, state_of, tiny_config

import distmgcd
from distmgcd.launch import start_run
from distmgcd.training.callbacks import RunStart
from distmgcd.workers.stop import Stopped

CHANGES = ("evaluate.every=2", "checkpoint.every=2", "log.every=1")


def debug(folder: Path, *callbacks: distmgcd.Callback) -> dict[str, Any]:
    where = {"storage_path": str(folder), "name": "run", "use_gpu": False}
    return start_run.debug(tiny_config(*CHANGES), **where, callbacks=callbacks)


def test_a_callback_is_called_with_what_happens_in_order(tmp_path: Path):
    result = debug(tmp_path, Recorder(tmp_path / "calls"))
    calls = noted(tmp_path / "calls")
    assert calls[0] == ["start", 0, 0, 1, 1.0, 6] and calls[-1] == ["end", 6, 6, "NoneType"]
    assert result["update"] == 6
    of = {what: [call[1] for call in calls if call[0] == what] for what in ("log", "evaluation", "samples")}
    assert of == {"log": [1, 2, 3, 4, 5, 6], "evaluation": [2, 4, 6], "samples": [2, 4, 6]}
    assert {tuple(call[2:]) for call in calls if call[0] == "samples"} == {("uint8", 3)}
    named = [call[0] for call in calls]
    assert named[named.index("evaluation") - 1] == "doing" and named[named.index("evaluation") + 1] == "samples"
    assert [call[:2] for call in calls if call[0] not in ("start", "samples", "end")] == [
        [kind_of(record), record["update"]] for record in log_of(tmp_path)
    ]


def kind_of(record: dict[str, Any]) -> str:
    names = {"grids": "log", "swd": "evaluation", "checkpoint": "checkpoint", "doing": "doing"}
    return next((name for key, name in names.items() if key in record), "event")


def test_should_stop_saves_and_leaves_and_the_run_resumes(tmp_path: Path):
    with pytest.raises(Stopped, match="Stopped at update 3 and saved it"):
        debug(tmp_path, Recorder(tmp_path / "calls", stop_at=3))
    assert noted(tmp_path / "calls")[-1] == ["end", 3, None, "Stopped"]
    assert (tmp_path / "run" / "checkpoints" / "update_000003").is_dir()
    debug(tmp_path, Recorder(tmp_path / "resumed"))
    assert noted(tmp_path / "resumed")[0][:2] == ["start", 3]
    debug_tiny(tmp_path, *CHANGES, name="unbroken")
    ours, theirs = state_of(tmp_path), state_of(tmp_path, "unbroken")
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())


def test_a_callback_that_raises_ends_the_run_and_nothing_that_was_saved_is_lost(tmp_path: Path):
    other = Recorder(tmp_path / "other")
    with pytest.raises(ZeroDivisionError, match="of the callback") as failure:
        debug(tmp_path, Recorder(tmp_path / "calls", raise_at=5), other)
    assert failure.value.__notes__ == ["Raised by the callback Recorder, in on_log."]
    assert failure.traceback[-1].name == "on_log"
    assert noted(tmp_path / "calls")[-1] == ["log", 5], "it is not called again"
    assert noted(tmp_path / "other")[-1] == ["end", 5, None, "ZeroDivisionError"]
    assert [r["update"] for r in records_of(tmp_path) if "grids" in r][-1] == 5, "the log is written first"
    debug(tmp_path, Recorder(tmp_path / "resumed"))
    assert noted(tmp_path / "resumed")[0][:2] == ["start", 4]
    assert [record["update"] for record in records_of(tmp_path) if "grids" in record] == [1, 2, 3, 4, 5, 6]


def test_the_loop_waits_for_checkpoints_where_a_callback_wants_it(tmp_path: Path):
    class Waits(Recorder):
        wait_for_checkpoints = True

    debug(tmp_path, Waits(tmp_path / "calls"))
    calls = [call for call in noted(tmp_path / "calls") if call[0] in ("log", "checkpoint")]
    assert [calls.index(["checkpoint", update]) - calls.index(["log", update]) for update in (2, 4)] == [1, 1]


def test_a_worker_knows_its_share_of_the_throughput(tmp_path: Path):
    """What Ray's metrics show of every worker."""
    pytest.importorskip("ray")
    from distmgcd.on_ray.cluster import metrics

    found: dict[str, float] = {}

    class Gauge:
        def __init__(self, name: str, **_: Any):
            self.name = name

        def set_default_tags(self, tags: dict[str, str]) -> None:
            assert tags == {"run": "first", "rank": "1"}

        def set(self, value: float, **_: Any) -> None:
            found[self.name] = value

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "Gauge", Gauge)
        worker = metrics.RayMetrics("first")
        worker.on_start(RunStart(tiny_config(), "run", 0, rank=1, world_size=2, share=0.25))
        worker.on_log({"update": 3, "images_per_s": 80.0, "grids": {"8": {"gap": 1.0}}})
    assert found == {"distmgcd_images_per_second": 20.0, "distmgcd_update": 3}
