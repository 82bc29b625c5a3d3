"""A user's callback in the process of rank 0 of two workers, through a real local Ray."""

import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from recording_callback import Recorder, noted
from tiny_runs import records_of, tiny_config

import distmgcd
from distmgcd.launch import start_run

CODE = """
    import sys
    from pathlib import Path
    from recording_callback import Recorder
    from tiny_runs import tiny_config
    from distmgcd import train

    folder, what, update = sys.argv[1:]
    train(
        tiny_config("evaluate.every=2", "checkpoint.every=2", "log.every=1"),
        storage_path=folder,
        name="run",
        num_workers=2,
        use_gpu=False,
        cpus_per_worker=1,
        callbacks=[Recorder(Path(folder) / what, **{what: int(update)})],
    )
"""


def train(folder: Path, what: str, update: int) -> tuple[str, list[list]]:
    """What a command says that trains with a recorder, and what that noted."""
    path = os.pathsep.join(filter(None, sys.path))
    arguments = [sys.executable, "-c", textwrap.dedent(CODE), str(folder), what, str(update)]
    done = subprocess.run(arguments, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == 1 and (folder / what).exists(), done.stderr
    return done.stderr, noted(folder / what)


def test_a_callback_that_raises_ends_the_run_which_resumes_and_one_that_says_so_stops_it(tmp_path: Path):
    err, calls = train(tmp_path, "raise_at", 3)
    assert calls[0] == ["start", 0, 0, 2, 0.5, 6]
    called = [call[:2] for call in calls if call[0] not in ("event", "checkpoint")][1:]
    assert called == [["log", 1], ["log", 2], ["doing", 2], ["evaluation", 2], ["samples", 2], ["log", 3]]
    assert "RunFailed: A callback has failed (ZeroDivisionError). The same command goes on" in err
    assert "ZeroDivisionError: of the callback" in err and 'recording_callback.py", line' in err
    assert "Starting the workers again" not in err

    err, calls = train(tmp_path, "stop_at", 4)
    assert "Stopped: Stopped at update 4 and saved it" in err
    assert calls[0][:2] == ["start", 2] and calls[-1] == ["end", 4, None, "Stopped"]
    called = [call[:2] for call in calls if call[0] != "event"][1:-1]
    assert called == [["log", 3], ["log", 4], ["doing", 4], ["checkpoint", 4]], "it leaves within the evaluation"
    assert [r["update"] for r in records_of(tmp_path) if "grids" in r] == [1, 2, 3, 4]


def test_a_callback_that_cannot_be_pickled_is_refused_before_anything_is_written(tmp_path: Path):
    class Locked(Recorder):
        lock = None

    callback = Locked(tmp_path / "calls")
    callback.lock = threading.Lock()
    with pytest.raises(distmgcd.UserError, match="The callback Locked cannot be pickled .*TypeError.*in its on_start"):
        start_run.train(
            tiny_config(), storage_path=str(tmp_path), name="run", num_workers=1, use_gpu=False, callbacks=[callback]
        )
    assert not list(tmp_path.iterdir())
