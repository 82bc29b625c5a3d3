"""The loop goes on while a checkpoint is written, and nothing of it is lost."""

import threading
from pathlib import Path

import pytest
from tiny_runs import Stopped, debug, records_of, state_of, stop_after

from distmgcd.runs import checkpoint, learner_state
from distmgcd.runs.run_folder import Run
from distmgcd.runs.saving import Background
from distmgcd.training import loop

_BOUND = 20.0  # seconds that nothing here takes


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch):
    """Writes of checkpoints wait here; gate.entered holds the updates whose write has begun."""

    class Gate(threading.Event):
        def __init__(self) -> None:
            super().__init__()
            self.entered: list[int] = []

    gate, write = Gate(), learner_state.write

    def slow(store, snapshot):
        gate.entered.append(snapshot.progress.update)
        assert gate.wait(_BOUND)
        return write(store, snapshot)

    monkeypatch.setattr(learner_state, "write", slow)
    return gate


def test_a_job_runs_beside_us_and_its_outcome_is_taken_once():
    background, go = Background(), threading.Event()
    background.submit(lambda: go.wait(_BOUND))
    assert background.take(wait=False) is None
    go.set()
    outcome = background.take(wait=True)
    assert outcome.error is None and outcome.seconds >= 0
    assert background.take(wait=True) is None


def test_a_second_job_does_not_start_before_the_first_was_taken():
    background = Background()
    background.submit(lambda: None)
    with pytest.raises(RuntimeError, match="has not been taken"):
        background.submit(lambda: None)
    background.take(wait=True)


def fail(error: Exception) -> None:
    raise error


def test_a_disk_that_fails_is_an_outcome_and_a_mistake_of_ours_is_raised():
    background = Background()
    background.submit(lambda: fail(OSError(28, "No space left on device")))
    assert background.take(wait=True).error.strerror == "No space left on device"
    background.submit(lambda: fail(KeyError("x")))
    with pytest.raises(KeyError):
        background.take(wait=True)
    assert background.take(wait=True) is None


def test_updates_go_on_while_a_checkpoint_is_written_up_to_the_next_one(tmp_path: Path, gate, monkeypatch):
    saved_at_4, save = [], loop.save

    def watched(training, swd=None):
        if training.progress.update == 4:  # the write of update 2 has not even begun to touch the disk
            saved_at_4.append((list(gate.entered), checkpoint.names(training.run.store)))
            gate.set()
        save(training, swd)

    monkeypatch.setattr(loop, "save", watched)
    debug(tmp_path)
    assert saved_at_4 == [([2], [])]
    assert gate.entered == [2, 4, 6, 6]


def test_what_is_written_is_the_state_at_its_update_though_learning_went_on(tmp_path: Path, gate, monkeypatch):
    """The write of update 2 begins after update 4 was computed."""
    save = loop.save
    monkeypatch.setattr(
        loop, "save", lambda training, swd=None: (training.progress.update == 4 and gate.set(), save(training, swd))
    )
    debug(tmp_path, "checkpoint.keep=9")
    monkeypatch.undo()
    debug(tmp_path, "learning.learning_rate=3e-4", "checkpoint.keep=9", name="calm")
    ours, theirs = (state_of(tmp_path, name, checkpoint_name="update_000002") for name in ("run", "calm"))
    later = state_of(tmp_path, checkpoint_name="update_000004")
    assert all(value.equal(theirs[name]) for name, value in ours.items())
    assert not all(value.equal(later[name]) for name, value in ours.items())


def test_a_run_that_is_stopped_waits_for_its_checkpoint(tmp_path: Path, gate):
    timer = threading.Timer(0.3, gate.set)
    timer.start()
    with pytest.raises(Stopped):
        debug(tmp_path, show=stop_after(3))
    assert gate.is_set() and checkpoint.names(Run.open(str(tmp_path / "run")).store) == ["update_000002"]
    timer.join()


def test_going_back_waits_for_the_newest_checkpoint(tmp_path: Path, gate, monkeypatch):
    """Update 3 diverges while the checkpoint of update 2 is being written."""
    learn, roll_back, struck = loop.learn, loop.roll_back, []

    def learn_struck(learner, pixels, indices, at, method, **how):
        if at == 2 and not struck:
            struck.append(at)
            next(learner.model.grids[1].parameters()).data.fill_(float("nan"))
        return learn(learner, pixels, indices, at, method, **how)

    def opened(training, event):
        assert checkpoint.names(training.run.store) == []
        threading.Timer(0.2, gate.set).start()
        roll_back(training, event)

    monkeypatch.setattr(loop, "learn", learn_struck)
    monkeypatch.setattr(loop, "roll_back", opened)
    debug(tmp_path)
    (event,) = [record["event"] for record in records_of(tmp_path) if "event" in record]
    assert "Going back to the checkpoint of update 2" in event


def test_the_log_states_the_pause_and_the_write_of_every_checkpoint(tmp_path: Path):
    debug(tmp_path)
    times = [record for record in records_of(tmp_path) if "checkpoint" in record]
    assert [record["update"] for record in times] == [2, 4, 6, 6]  # the last again, with its score
    assert all(record["checkpoint"].keys() == {"pause_s", "write_s"} for record in times)
    assert all(0 < value < _BOUND for record in times for value in record["checkpoint"].values())


def test_no_thread_outlives_a_run(tmp_path: Path):
    before = threading.enumerate()
    debug(tmp_path)
    assert threading.enumerate() == before
