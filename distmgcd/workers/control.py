"""What a run is asked to do between two updates, and what its watchdog sees of that."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from distmgcd.workers.stop import Request
from distmgcd.workers.watchdog import Activity


class Control:
    """Of a process that trains alone."""

    def __init__(self, requested: Callable[[], Request] = lambda: Request.CONTINUE):
        """requested: what this worker is asked for from outside."""
        self._requested = requested

    def before_update(self, update: int, wish: Request = Request.CONTINUE) -> Request:
        """What to do before this update, the same in all workers; called by all of them before each one.

        wish: what this worker's own loop asks for; the largest of all wishes counts.
        """
        return max(self._requested(), wish)

    def leaving(self, wish: Request = Request.CONTINUE) -> bool:
        """Whether the run is asked to leave, the same in all workers; called by all of them, between two updates."""
        return max(self._requested(), wish) == Request.STOP

    def busy(self, what: str) -> None:
        """Something begins that is no update and may take longer."""


class GroupControl(Control):
    """Of one of many workers: what one of them is asked for, all do, at the same update.

    Every worker says what it was asked for before each update; what all know one update later is the largest of
    these wishes. The exchange runs beside the update, on the CPU, so nobody waits for it and no device is looked at.
    """

    def __init__(self, requested: Callable[[], Request] = lambda: Request.CONTINUE):
        """Called by all workers of the default process group."""
        super().__init__(requested)
        self.activity = Activity()
        self._group: Any = dist.new_group(backend="gloo")  # also beside nccl: its wishes would wait for the device
        self._wish: Tensor | None = None
        self._exchange: dist.Work | None = None
        self._kept = Request.CONTINUE  # what was agreed on while only leaving was asked after

    def before_update(self, update: int, wish: Request = Request.CONTINUE) -> Request:
        agreed, self._kept = max(self._agree(wish), self._kept), Request.CONTINUE
        self.activity.update(update)
        return agreed

    def leaving(self, wish: Request = Request.CONTINUE) -> bool:
        self._kept = max(self._agree(wish), self._kept)
        return self._kept == Request.STOP

    def busy(self, what: str) -> None:
        self.activity.other(what)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Inside, this worker waits for the others."""
        self.activity.wait()
        yield
        self.activity.wait(False)

    def _agree(self, wish: Request) -> Request:
        """Say what this worker wishes; returns what all wished at their call before this one."""
        with self.waiting():
            agreed = Request.CONTINUE
            if self._exchange is not None and self._wish is not None:
                self._exchange.wait()
                agreed = Request(int(self._wish))
            self._wish = torch.tensor([int(max(self._requested(), wish))])
            self._exchange = dist.all_reduce(self._wish, op=dist.ReduceOp.MAX, group=self._group, async_op=True)
        return agreed
