"""What the driver makes of the ways in which Ray Train's fit() can end; no Ray is started."""

import queue
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray
from ray.exceptions import ActorDiedError, OutOfMemoryError, RayTaskError, RpcError
from ray.train import ControllerError, TrainingFailedError, WorkerGroupError
from tiny_runs import tiny_config

from distmgcd.errors import RunFailed, UserError
from distmgcd.on_ray.train import driver
from distmgcd.on_ray.train.driver import _follow
from distmgcd.on_ray.train.failures import ray_errors_as_run_failed
from distmgcd.on_ray.tune.driver import _fit as fit_sweep
from distmgcd.runs.run_folder import Run
from distmgcd.training.callbacks import Callbacks


class EmptyMailbox:
    """A mailbox with nothing on it."""

    def get(self, key: str) -> None:
        return None


def trainer(fit) -> SimpleNamespace:
    return SimpleNamespace(fit=fit)


def test_what_fit_returns_is_handed_on():
    fits = trainer(lambda: SimpleNamespace(return_value="the end"))
    assert _follow(fits, EmptyMailbox(), Callbacks([]), lambda: False) == "the end"


def failure_of(error: Exception) -> RunFailed:
    def fit() -> None:
        raise error

    with pytest.raises(RunFailed) as failure:
        _follow(trainer(fit), EmptyMailbox(), Callbacks([]), lambda: False)
    return failure.value


OUT_OF_MEMORY = OutOfMemoryError(
    "Task was killed.\nMemory on the node (IP: 10.0.0.2, ID: ab) was 15.20GB used / 16.00GB limit (0.95), above it."
)
WAY_ON = "The same command goes on from the newest checkpoint, or from the beginning if there is none."
FAILURES = [
    (OUT_OF_MEMORY, "Memory ran out on a node (15.20 of 16.00 GB were in use), and Ray ended the process that led the"),
    (ControllerError(OUT_OF_MEMORY), "Memory ran out on a node"),
    (RayTaskError("fit", "a long\ntraceback", OUT_OF_MEMORY).as_instanceof_cause(), "Memory ran out on a node"),
    (
        ControllerError(RuntimeError("no group\n  now")),
        "Ray could not start or keep the group of workers: no group now.",
    ),
    (WorkerGroupError("a long\ntext", {3: ValueError("bad")}), "Rank 3 failed: ValueError: bad."),
    (ActorDiedError(), "The process of Ray that led the run died"),
    (RpcError("head lost"), "Ray does not lead the run any more: RpcError: head lost"),
    (TrainingFailedError("why"), "The run ended by an error that Ray raised: TrainingFailedError: why."),
]


@pytest.mark.parametrize(("error", "said"), FAILURES, ids=lambda value: type(value).__name__)
def test_whatever_fit_raises_is_told_with_the_way_on(error: Exception, said: str):
    text = str(failure_of(error))
    first, *traceback = text.splitlines()
    assert first.startswith(said) and first.endswith(WAY_ON)
    assert not traceback or isinstance(error, TrainingFailedError)


def test_what_ray_raises_outside_of_fit_is_told_too_and_the_rest_is_left_alone():
    said = "Ray does not lead the run any more: RpcError: head lost.* Go on."
    with pytest.raises(RunFailed, match=said), ray_errors_as_run_failed("Go on."):
        raise RpcError("head lost")
    for error in (UserError("a mistake"), ZeroDivisionError()):
        with pytest.raises(type(error)), ray_errors_as_run_failed("Go on."):
            raise error


def test_an_error_that_nobody_foresaw_is_shown_with_where_it_came_from():
    failure = failure_of(ZeroDivisionError("by 0"))
    assert "The same command goes on" in str(failure) and ", in fit\n" in str(failure)
    assert failure.reason == "ZeroDivisionError: by 0"  # for a trial's row in a table


def test_a_mistake_of_the_user_stays_one():
    def fit() -> None:
        raise UserError("the disk is full")

    with pytest.raises(UserError, match="the disk is full"):
        _follow(trainer(fit), EmptyMailbox(), Callbacks([]), lambda: False)


def test_of_a_sweep_too_whatever_fit_raises_is_told():
    def fit() -> None:
        raise OUT_OF_MEMORY

    ended: queue.Queue = queue.Queue()
    fit_sweep(trainer(fit), ended)
    with pytest.raises(RunFailed, match="Memory ran out.* The same command with --resume goes on"):
        ended.get()()


def test_workers_that_failed_for_good_are_told_with_their_traceback_last():
    mailbox = SimpleNamespace(get={"failed": {"what": "Rank 0 failed.", "traceback": "File\nValueError: x"}}.get)
    with pytest.raises(RunFailed) as failure:
        _follow(trainer(lambda: time.sleep(0.5)), mailbox, Callbacks([]), lambda: False)
    first, *_, last = str(failure.value).splitlines()
    assert first.endswith(WAY_ON) and last == failure.value.reason == "ValueError: x"


@pytest.mark.parametrize("is_trial", [False, True])
def test_only_who_starts_a_trial_says_that_it_is_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, is_trial: bool):
    """A Ray that runs already may be a notebook's, in which nobody has looked for room."""
    asked, trained = [], []

    def see_room(num_workers: int, each: dict[str, float], **how: object) -> None:
        asked.append((num_workers, each, how["patience"]))

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(driver, "node_cpus", lambda: [6])
    monkeypatch.setattr(driver, "wait_for_room", see_room)
    monkeypatch.setattr(driver, "check_nodes", lambda *_: None)
    monkeypatch.setattr(driver, "RayMailbox", SimpleNamespace(new=lambda: SimpleNamespace(run="r", clear=lambda: None)))
    monkeypatch.setattr(driver, "_follow", lambda trainer, *_: trained.append(trainer.scaling_config) or "{}")
    monkeypatch.setattr(driver, "note_update", lambda _: None)
    how = {"num_workers": 2, "use_gpu": False, "cpus_per_worker": 1 if is_trial else None, "is_trial": is_trial}
    driver.train_on_ray(tiny_config(), Run.at(str(tmp_path), "run"), **how)
    assert asked == ([] if is_trial else [(2, {"CPU": 3}, driver._PATIENCE)])
    assert trained[0].resources_per_worker == {"CPU": 1 if is_trial else 3}
