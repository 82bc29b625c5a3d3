"""SIGKILL at every step that a checkpoint takes on the disk: whole checkpoints only, and the same end."""

import os
import subprocess
import sys
from pathlib import Path

from tiny_runs import TINY

# Every write and renaming of a Store is two moments, before and after it; a deletion, before it and half way through.
# One process imports everything and forks a run for each, which is killed at its moment and then goes on.
KILL = """
import os, shutil, signal, sys
from pathlib import Path
import torch
from distmgcd.launch import start_run
from distmgcd.config import load_config
from distmgcd.runs import checkpoint, run_folder as run_module
from distmgcd.runs.store import Store

torch.set_num_threads(1)
config = load_config(sys.argv[1], ["checkpoint.keep=1", "learning.num_updates=4"])
base = Path(sys.argv[2])
moments = []  # what was under way at each

def at_a_moment(at, what, name):
    if not name.startswith("checkpoints"):
        return
    moments.append(what)
    if len(moments) == at:
        os.kill(os.getpid(), signal.SIGKILL)

def train(folder, kill_at):
    def between(function, what):
        def stepped(self, name, *rest):
            if what == "delete" and not self.exists(name):
                return
            at_a_moment(kill_at, what, name)
            if what == "delete" and len(moments) + 1 == kill_at:
                for file in list(Path(self.path(name)).glob("*"))[:3]:
                    file.unlink()
            else:
                function(self, name, *rest)
            at_a_moment(kill_at, what, name)
        return stepped
    Store.write = between(Store.write, "write")
    Store.rename_folder = between(Store.rename_folder, "rename")
    Store.delete_folder = between(Store.delete_folder, "delete")
    start_run.debug(config, storage_path=str(folder), name="run", use_gpu=False)
    (folder / "moments").write_text(" ".join(moments))

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

start_run.debug(config, storage_path=str(base / "first"), name="run", use_gpu=False)  # for what is imported on the way
assert forked(base / "whole", 0) == 0
expected, kinds = files_of(newest(base / "whole")), (base / "whole" / "moments").read_text().split()
tried = [at for at, kind in enumerate(kinds, 1) if kind != "write" or at % int(sys.argv[3]) == 0]
for kill_at in tried:
    folder = base / str(kill_at)
    folder.mkdir()
    assert forked(folder, kill_at) == signal.SIGKILL, kill_at
    newest(folder)
    assert forked(folder, 0) == 0, kill_at
    assert files_of(newest(folder)) == expected, kill_at
    assert sorted(path.name for path in (folder / "run" / "checkpoints").iterdir()) == sorted(
        path.name for path in (base / "whole" / "run" / "checkpoints").iterdir()), kill_at
    shutil.rmtree(folder)
print(kinds.count("delete"), kinds.count("rename"), len(tried))
"""


STRIDE = int(os.environ.get("DISTMGCD_TEST_KILL_STRIDE", "7"))  # of writes; 1 tries them all


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
    num_deletions, num_renamings, num_tried = map(int, done.stdout.split()[-3:])
    # Three checkpoints; the first is deleted for the second, the third takes the place of its unscored self.
    assert num_deletions >= 4 and num_renamings >= 10 and num_tried > num_deletions + num_renamings
