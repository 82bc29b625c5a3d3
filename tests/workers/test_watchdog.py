"""Who is stuck is told from what the workers post, by one clock."""

import threading
from dataclasses import replace

import pytest

from distmgcd.workers.watchdog import Activity, Heartbeat, Watchdog, _Watch

BEAT = Heartbeat(
    count=1, steps=1, doing="update 7", waits=False, patience=10.0, where="learning.py, line 3, learn", who="X"
)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def watched(beats_at: list[list[Heartbeat]], *, every: float = 1.0) -> tuple[_Watch, list[list[int]]]:
    """A watch with a limit of 10 s that looks at the beats of all ranks in turn; what it finds each time."""
    clock = Clock()
    watch, found = _Watch(len(beats_at[0]), 10.0, clock), []
    for beats in beats_at:
        clock.now += every
        found.append(watch.look(dict(enumerate(beats))))
    return watch, found


def beats(seconds: int, *ranks: dict) -> list[list[Heartbeat]]:
    """One beat of each rank a second: a field that is a function is one of the second."""
    return [
        [
            replace(
                BEAT, **{key: value(t) if callable(value) else value for key, value in {"count": t, **rank}.items()}
            )
            for rank in ranks
        ]
        for t in range(seconds)
    ]


def at_work(t: int) -> int:
    return t


def test_workers_that_get_things_done_are_left_alone():
    _, found = watched(beats(100, {"steps": at_work}, {"steps": at_work, "waits": True}))
    assert not any(found)


def test_a_worker_without_a_sign_of_life_is_found_though_the_others_wait_for_it():
    watch, found = watched(beats(30, {"waits": True}, {"count": 3}))
    assert found[10] == [] and found[12] == [1]
    assert watch.silent() == [1] and "Rank 1 (X) has given no sign of life for" in watch.sentence([1])


def test_of_workers_that_live_the_one_that_does_not_wait_is_to_blame():
    watch, found = watched(beats(12, {"waits": True}, {}, {"waits": True}))
    assert found[10] == [] and found[11] == [1]
    assert watch.sentence([1]) == ("Rank 1 (X) has been stuck in update 7 for 11 s, at learning.py, line 3, learn.")


def test_where_all_wait_all_are_named():
    watch, found = watched(beats(12, {"waits": True}, {"waits": True}))
    assert found[11] == [0, 1] and "and so have ranks 1." in watch.sentence([0, 1])


def test_a_worker_alone_is_found():
    assert watched(beats(12, {}))[1][11] == [0]


def test_a_worker_with_more_patience_has_it():
    _, found = watched(beats(50, {"waits": True, "patience": 10.0}, {"patience": 40.0}))
    assert found[40] == [] and found[41] == [1]


def test_one_that_slept_blames_nobody():
    """As a machine that was suspended does: what it did not look at, it has not seen stand still."""
    assert not any(watched(beats(10, {"waits": True}, {"count": 3}), every=6.0)[1])


def test_before_all_have_posted_nobody_is_stuck():
    watch = _Watch(2, 10.0, clock := Clock())
    for second in range(100):
        clock.now = float(second)
        assert watch.look({0: replace(BEAT, count=second)}) == []


def test_patience_grows_with_updates_that_take_long(monkeypatch: pytest.MonkeyPatch):
    clock = Clock()
    monkeypatch.setattr("distmgcd.workers.watchdog.time.monotonic", clock)
    activity = Activity()
    assert activity.patience(10.0) == 60.0  # reading data
    for update in range(4):
        activity.update(update)
        clock.now += 30.0
    assert activity.patience(10.0) == 150.0
    activity.other("saving")
    assert activity.patience(10.0) == 900.0


class HeartbeatMailbox(dict):
    """In memory."""

    def post(self, rank: int, text: str) -> None:
        self[rank] = text

    def read(self, rank: int) -> str | None:
        return self.get(rank)


def test_one_worker_acts_and_says_where_the_other_is():
    mailbox, verdicts, done = HeartbeatMailbox(), [], threading.Event()
    pulses = [Activity(), Activity()]
    pulses[0].wait()
    pulses[0].in_update = pulses[1].in_update = True

    def act(rank: int):
        return lambda verdict: (verdicts.append((rank, verdict)), done.set())

    dogs = [
        Watchdog(activity, mailbox, rank=rank, world_size=2, limit=0.3, on_stuck=act(rank))
        for rank, activity in enumerate(pulses)
    ]
    for dog in dogs:
        dog.start()
    assert done.wait(10)
    for dog in dogs:
        dog.end()
        dog.join()
    ((rank, verdict),) = verdicts
    assert rank == 0 and verdict.startswith("Rank 1 (host ") and "has been stuck in its start for" in verdict
