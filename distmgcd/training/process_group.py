"""A process group of torch.distributed, and its threads, ended before Python is."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch.distributed as dist


@contextmanager
def process_group(backend: str, **meeting: Any) -> Iterator[None]:
    """The default process group, within which this process is one of several.

    meeting: how they find each other, as torch.distributed.init_process_group; from the environment where nothing is
    said.
    """
    dist.init_process_group(backend, **meeting)
    try:
        yield
    finally:
        dist.destroy_process_group()
        # Gloo's threads live as long as any DDP model that knows the group, and those are in reference cycles. A thread
        # that lets go of its last tensor while Python ends kills the process by SIGABRT (pytorch issue 190489), and a
        # run that had succeeded counts as failed.
        gc.collect()
