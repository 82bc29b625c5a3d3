"""Averages, broadcasts and gathers over the workers of a run: one process alone, or one of many.

One rank is a special case of many, so the loop has no branch for it.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from distmgcd.environment import threads_asked_for, usable_cpus
from distmgcd.errors import UserError
from distmgcd.workers.control import Control, GroupControl

# DDP's name for whether a forward pass broadcasts buffers: the second one warns since torch 2.14.
_SYNC_BUFFERS = next(
    name
    for name in ("forward_sync_buffers", "broadcast_buffers")
    if name in inspect.signature(DistributedDataParallel).parameters
)


class Worker(Protocol):
    """Collectives over all workers of a run, and what the run is asked to do (control)."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def control(self) -> Control: ...

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model such that a backward pass averages gradients over all workers."""
        ...

    def share(self, model: nn.Module) -> None:
        """Give all workers the first one's weights; called by all of them. To wrap a model does so, too."""
        ...

    def start_average(self, values: Tensor) -> Callable[[], None]:
        """Begin to replace values by their mean over workers; what it returns waits for that. Called by all of them."""
        ...

    def mean(self, values: Tensor) -> Tensor:
        """The mean over workers of a tensor of the same shape in each; called by all of them."""
        ...

    def gather(self, values: Tensor, counts: Sequence[int] | None = None) -> Tensor:
        """The tensors [n_r, ...] of all workers, in rank order, one after the other; called by all of them.

        counts: the n_r, where they are known; else all workers wait to hear them.
        """
        ...


class LocalWorker:
    """This process alone."""

    rank = 0
    world_size = 1

    def __init__(self, device: torch.device, control: Control | None = None):
        self.device = device
        self.control = control or Control()

    def wrap(self, model: nn.Module) -> nn.Module:
        return model

    def share(self, model: nn.Module) -> None:
        pass

    def start_average(self, values: Tensor) -> Callable[[], None]:
        return lambda: None

    def mean(self, values: Tensor) -> Tensor:
        return values

    def gather(self, values: Tensor, counts: Sequence[int] | None = None) -> Tensor:
        return values


class ProcessGroupWorker:
    """One rank of the default torch.distributed process group, whoever started it (Ray Train, torchrun, a test)."""

    def __init__(self, device: torch.device, control: GroupControl | None = None):
        """Called by all workers of the group."""
        self.rank = dist.get_rank()
        self.world_size = dist.get_world_size()
        self.device = device
        self.control = control or GroupControl()

    def wrap(self, model: nn.Module) -> nn.Module:
        # No buffers are broadcast: spectral norm's are a function of the weights, which are the same everywhere.
        if self.world_size == 1:
            return model
        device_ids = [self.device.index] if self.device.type == "cuda" else None
        buffers: dict[str, Any] = {_SYNC_BUFFERS: False}
        wrapped = DistributedDataParallel(model, device_ids=device_ids, gradient_as_bucket_view=True, **buffers)
        activity = self.control.activity
        wrapped.register_forward_pre_hook(lambda *_: activity.wait())  # soon the gradients meet those of the others
        return wrapped

    def share(self, model: nn.Module) -> None:
        with self.control.waiting():
            for value in model.state_dict().values():
                dist.broadcast(value, src=0)

    def start_average(self, values: Tensor) -> Callable[[], None]:
        values.mul_(1.0 / self.world_size)  # before they are added, as DDP does: two workers get the same bits by both
        work = dist.all_reduce(values, async_op=True)

        def wait() -> None:
            self.control.activity.wait()  # only now: a chain needs no other worker, whatever is on its way meanwhile
            work.wait()

        return wait

    def mean(self, values: Tensor) -> Tensor:
        total = values.clone()
        with self.control.waiting():
            dist.all_reduce(total)
        return total / self.world_size

    def gather(self, values: Tensor, counts: Sequence[int] | None = None) -> Tensor:
        with self.control.waiting():
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


def choose_device(use_gpu: bool | None) -> torch.device:
    """None takes a GPU where there is one. Raises UserError where one was asked for and there is none.

    From here on torch has no more threads than CPUs that this process may use: of a container's quota it knows nothing.
    """
    if use_gpu and not torch.cuda.is_available():
        raise UserError(
            "--gpu asks for a GPU, but torch sees none on this machine; leave --gpu out to run on the CPU, or check "
            "nvidia-smi."
        )
    if threads_asked_for() is None and torch.get_num_threads() > (cpus := usable_cpus()):
        torch.set_num_threads(cpus)
    return torch.device("cuda" if use_gpu or (use_gpu is None and torch.cuda.is_available()) else "cpu")
