"""A process that was one of several ends by itself, before Python's own end, in which gloo's threads may abort it."""

import subprocess
import sys

PART = """
import atexit, threading, time
from distmgcd.workers.end_rank import be_one_of_many

def work():
    atexit.register(print, "Python ended it")
    print("done")
    threading.Thread(target=lambda: (time.sleep(0.3), print("saved"))).start()
    {last}

be_one_of_many(work, "gloo", init_method=f"file://{folder}/meeting", rank=0, world_size=1)
print("went on")
"""


def do_part(folder, last: str) -> subprocess.CompletedProcess:
    program = PART.replace("{folder}", str(folder)).replace("{last}", last)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)


def test_it_ends_with_its_part_when_all_that_it_does_is_done(tmp_path):
    ended = do_part(tmp_path, "")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "done\nsaved\n"  # written out, though to a pipe; Python's own end did not come


def test_what_its_part_raises_is_raised(tmp_path):
    ended = do_part(tmp_path, "raise SystemExit(3)")
    assert ended.returncode == 3
