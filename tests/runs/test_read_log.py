"""A log is followed as it grows: each record once, in order, also where a restart cuts the log back."""

import json
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from distmgcd.runs.log import Log
from distmgcd.runs.read_log import LogFollower, read_log
from distmgcd.runs.run_folder import Run
from distmgcd.runs.store import Store


@pytest.fixture(params=["local", "remote"])
def run(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    if request.param == "remote":  # each read of which gives another object
        monkeypatch.setattr(Store, "is_local", property(lambda store: False))
    (tmp_path / "run" / "log").mkdir(parents=True)
    return Run.at(str(tmp_path), "run")


def write(folder: Path, updates: Iterable[int], *, after_update: int) -> None:
    log = Log(folder, after_update=after_update)
    for update in updates:
        log.write({"update": update, "event": "x" * update, "at": time.perf_counter()})


def new_of(follower: LogFollower) -> list[int]:
    return [record["update"] for record in follower.new()]


def test_records_are_read_once_though_restarts_cut_the_log_back(run: Run, tmp_path: Path):
    folder = tmp_path / "run" / "log"
    write(folder, range(1, 8), after_update=0)  # by the command before, which was killed
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"update": 8, "gr')
    with LogFollower(run.store) as follower:
        assert new_of(follower) == []
        write(folder, range(5, 13), after_update=4)  # longer than the old log at once
        assert new_of(follower) == list(range(5, 13))
        write(folder, range(9, 11), after_update=8)  # workers that were restarted
        assert new_of(follower) == [9, 10]
        with (folder / "metrics.jsonl").open("a") as file:
            file.write('{"update": 1')
            file.flush()
            assert new_of(follower) == []
            file.write("1}\n")
        assert new_of(follower) == [11] and new_of(follower) == []
    assert [record["update"] for record in read_log(run.store)] == list(range(1, 12))


def test_a_log_that_is_not_there_yet_is_read_from_its_start(run: Run, tmp_path: Path):
    with LogFollower(run.store) as follower:
        assert new_of(follower) == read_log(run.store) == []
        write(tmp_path / "run" / "log", range(1, 4), after_update=0)
        assert new_of(follower) == [1, 2, 3]


def test_half_a_record_and_what_is_none_are_passed_over(tmp_path: Path):
    (tmp_path / "log").mkdir()
    lines = ['{"update": 1}', "[1]", '{"no": "update"}', '{"update": 2, "half', json.dumps({"update": 3})]
    (tmp_path / "log" / "metrics.jsonl").write_text("\n".join(lines))
    store = Store(str(tmp_path))
    assert [record["update"] for record in read_log(store)] == [1, 3]
    assert [record["update"] for record in read_log(store, last_bytes=20)] == [3]
