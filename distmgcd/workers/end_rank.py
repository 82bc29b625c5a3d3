"""A process that is one of several, and ends when its part is done."""

import os
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

import torch.distributed as dist


def be_one_of_many(work: Callable[[], None], backend: str, **meeting: Any) -> NoReturn:
    """Do this process's part of a work, and end the process; what the work raises is raised.

    meeting: how the processes find each other, as torch.distributed.init_process_group; from the environment where
    nothing is said.
    """
    dist.init_process_group(backend, **meeting)
    try:
        work()
    finally:
        dist.destroy_process_group()
    # Python's own end is left out. A thread of gloo that lets go of its last tensor in the middle of that kills the
    # process by SIGABRT (pytorch issue 190489; these threads may outlive their group), and what was done counts as
    # failed.
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
