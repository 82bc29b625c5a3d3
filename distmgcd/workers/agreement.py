"""What all workers do next is decided by all of them, at the same update.

Every worker says what it was asked for before each update; what all know one update later is the largest of
these wishes. The exchange runs beside the update, on the CPU, so nobody waits for it and no device is looked at.
"""

import torch
import torch.distributed as dist
from torch import Tensor

from distmgcd.workers.stop import Request


class Agreement:
    def __init__(self) -> None:
        """Called by all workers of the default process group."""
        self._group = dist.new_group(backend="gloo")  # also beside nccl: its wishes would wait for the device
        self._wish: Tensor | None = None
        self._exchange: dist.Work | None = None

    def next(self, wish: Request) -> Request:
        """Say what this worker wishes; returns what all wished at their call before this one. Called by all."""
        agreed = Request.CONTINUE
        if self._exchange is not None:
            self._exchange.wait()
            agreed = Request(int(self._wish))
        self._wish = torch.tensor([int(wish)])
        self._exchange = dist.all_reduce(self._wish, op=dist.ReduceOp.MAX, group=self._group, async_op=True)
        return agreed
