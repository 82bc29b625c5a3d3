"""What a run writes into its log is shown once, in order, also where a restart cuts the log back."""

import json
import time
from pathlib import Path

from distmgcd.launch.start_run import _following
from distmgcd.runs.log import Log
from distmgcd.runs.run_folder import Run


def until(shown: list[int], number: int) -> None:
    end = time.monotonic() + 10
    while len(shown) < number and time.monotonic() < end:
        time.sleep(0.01)


def test_records_are_shown_once_though_restarts_cut_the_log_back(tmp_path: Path):
    run, shown = Run.at(str(tmp_path), "run"), []
    folder = run.log_folder()
    write(Log(folder, after_update=0), range(1, 8))  # by the command before, which was killed
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"update": 8, "gr')
    with _following(run, lambda record: shown.append(record["update"])):
        write(Log(folder, after_update=4), range(5, 13))  # longer than the old log at once
        until(shown, 8)
        write(Log(folder, after_update=8), range(9, 11))  # workers that were restarted
        until(shown, 10)
        with (folder / "metrics.jsonl").open("a") as file:
            file.write('{"update": 1')
            file.flush()
            time.sleep(0.5)
            file.write("1}\n")
    assert shown == [*range(5, 13), 9, 10, 11]
    updates = [json.loads(line)["update"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert updates == list(range(1, 12))


def test_a_new_run_is_shown_from_its_start(tmp_path: Path):
    run, shown = Run.at(str(tmp_path), "run"), []
    with _following(run, lambda record: shown.append(record["update"])):
        time.sleep(0.3)
        write(Log(run.log_folder(), after_update=0), range(1, 4))
    assert shown == [1, 2, 3]


def write(log: Log, updates: range) -> None:
    for update in updates:
        log.write({"update": update, "event": "x" * update, "at": time.perf_counter()})
