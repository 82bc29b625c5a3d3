"""What the loop asks of whoever runs it: one process alone, or one of many.

One rank is a special case of many, so the loop has no branch for it.
"""

import inspect
from collections.abc import Sequence
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from distmgcd.errors import UserError

# DDP's name for whether a forward pass broadcasts buffers: the second one warns since torch 2.14.
_SYNC_BUFFERS = next(
    name
    for name in ("forward_sync_buffers", "broadcast_buffers")
    if name in inspect.signature(DistributedDataParallel).parameters
)


class Worker(Protocol):
    rank: int
    world_size: int
    device: torch.device

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model such that a backward pass averages gradients over all workers."""

    def mean(self, values: Tensor) -> Tensor:
        """The mean over workers of a tensor of the same shape in each; called by all of them."""

    def gather(self, values: Tensor, counts: Sequence[int] | None = None) -> Tensor:
        """The tensors [n_r, ...] of all workers, in rank order, one after the other; called by all of them.

        counts: the n_r, where they are known; else all workers wait to hear them.
        """

    def show(self, record: dict[str, Any]) -> None:
        """Show a record of the log to the user, if this worker can; called by rank 0."""

    def evaluated(self, update: int, swd: dict[str, float]) -> None:
        """An evaluation on the way has been told, and its checkpoint, if one is due, is being written; called by rank 0.

        It may raise to end the run here.
        """


class LocalWorker:
    """This process alone."""

    rank = 0
    world_size = 1

    def __init__(self, device: torch.device, show: Any = None):
        self.device = device
        self._show = show

    def wrap(self, model: nn.Module) -> nn.Module:
        return model

    def mean(self, values: Tensor) -> Tensor:
        return values

    def gather(self, values: Tensor, counts: Sequence[int] | None = None) -> Tensor:
        return values

    def show(self, record: dict[str, Any]) -> None:
        if self._show is not None:
            self._show(record)

    def evaluated(self, update: int, swd: dict[str, float]) -> None:
        pass


class ProcessGroupWorker:
    """One rank of the default torch.distributed process group, whoever started it (Ray Train, torchrun, a test)."""

    def __init__(self, device: torch.device, show: Any = None):
        self.rank = dist.get_rank()
        self.world_size = dist.get_world_size()
        self.device = device
        self._show = show

    def wrap(self, model: nn.Module) -> nn.Module:
        # No buffers are broadcast: spectral norm's are a function of the weights, which are the same everywhere.
        if self.world_size == 1:
            return model
        device_ids = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(
            model, device_ids=device_ids, gradient_as_bucket_view=True, **{_SYNC_BUFFERS: False}
        )

    def mean(self, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total / self.world_size

    def gather(self, values: Tensor, counts: Sequence[int] | None = None) -> Tensor:
        counts = counts or self._counts(values)
        most = max(counts)
        padded = torch.cat([values, values.new_zeros(most - len(values), *values.shape[1:])])
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    def _counts(self, values: Tensor) -> list[int]:
        counts = [torch.zeros(1, dtype=torch.int64, device=values.device) for _ in range(self.world_size)]
        dist.all_gather(counts, torch.tensor([len(values)], device=values.device))
        return [int(count) for count in counts]

    def show(self, record: dict[str, Any]) -> None:
        if self._show is not None:
            self._show(record)

    def evaluated(self, update: int, swd: dict[str, float]) -> None:
        pass


def choose_device(use_gpu: bool | None) -> torch.device:
    """None takes a GPU where there is one. Raises UserError where one was asked for and there is none."""
    if use_gpu and not torch.cuda.is_available():
        raise UserError(
            "--gpu asks for a GPU, but torch sees none on this machine; leave --gpu out to run on the CPU, or check "
            "nvidia-smi."
        )
    return torch.device("cuda" if use_gpu or (use_gpu is None and torch.cuda.is_available()) else "cpu")
