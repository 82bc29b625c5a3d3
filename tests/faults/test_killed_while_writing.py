"""SIGKILL at every step that a checkpoint takes on the disk: whole checkpoints only, and the same end."""

import os
import subprocess
import sys
from pathlib import Path

from tiny_runs import TINY

# Every write, renaming and deletion of a Store is two moments: before it, and after it, or half way through a
# deletion. One process imports everything and forks a run for each, which is killed at its moment and then goes on.
KILL = """
import os, shutil, signal, sys
from pathlib import Path
import torch
from distmgcd import launch
from distmgcd.config import load_config
from distmgcd.train import checkpoint, run as run_module
from distmgcd.train.store import Store

torch.set_num_threads(1)
config = load_config(sys.argv[1], ["checkpoint.keep=1", "learning.num_updates=4"])
base = Path(sys.argv[2])
moment = 0

def at_a_moment(at, name):
    global moment
    if not name.startswith("checkpoints"):
        return
    moment += 1
    if moment == at:
        os.kill(os.getpid(), signal.SIGKILL)

def train(folder, kill_at):
    def between(function, half=None):
        def stepped(self, name, *rest):
            at_a_moment(kill_at, name)
            if half and moment + 1 == kill_at:
                half(self, name)
            function(self, name, *rest)
            at_a_moment(kill_at, name)
        return stepped
    def half_deleted(self, name):
        for file in list(Path(self.path(name)).glob("*"))[:3]:
            file.unlink()
    Store.write = between(Store.write)
    Store.rename_folder = between(Store.rename_folder)
    Store.delete_folder = between(Store.delete_folder, half_deleted)
    launch.debug(config, storage_path=str(folder), name="run", use_gpu=False)
    (folder / "moments").write_text(str(moment))

def forked(folder, kill_at):
    child = os.fork()
    if child == 0:
        try:
            train(folder, kill_at)
        finally:
            os._exit(0 if kill_at == 0 else 3)
    return os.waitpid(child, 0)[1]

def newest(folder):
    store = Store(str(folder / "run"))
    for name in checkpoint.names(store):
        checkpoint.read(store, name)  # raises if it is not whole
    return checkpoint.newest(store)

def files_of(found):
    return {name: found.files[name] for name in checkpoint.TENSOR_FILES}

launch.debug(config, storage_path=str(base / "first"), name="run", use_gpu=False)  # for what is imported on the way
assert forked(base / "whole", 0) == 0
expected, last = files_of(newest(base / "whole")), int((base / "whole" / "moments").read_text())
for kill_at in range(1, last + 1, int(sys.argv[3])):
    folder = base / str(kill_at)
    folder.mkdir()
    assert forked(folder, kill_at) == signal.SIGKILL, kill_at
    newest(folder)
    assert forked(folder, 0) == 0, kill_at
    assert files_of(newest(folder)) == expected, kill_at
    assert sorted(path.name for path in (folder / "run" / "checkpoints").iterdir()) == sorted(
        path.name for path in (base / "whole" / "run" / "checkpoints").iterdir()), kill_at
    shutil.rmtree(folder)
print(last, "moments")
"""


STRIDE = int(os.environ.get("DISTMGCD_TEST_KILL_STRIDE", "7"))  # 1 tries every moment, and takes minutes


def test_a_kill_at_any_moment_leaves_whole_checkpoints_and_the_run_ends_as_the_unbroken_one(tmp_path: Path):
    (tmp_path / "whole").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", KILL, str(TINY), str(tmp_path), str(STRIDE)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    num_moments = int(done.stdout.split()[-2])
    assert num_moments > 36  # three checkpoints of six files each, before and after
