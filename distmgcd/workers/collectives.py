"""What the loop asks of whoever runs it: one process alone, or one of many.

One rank is a special case of many, so the loop has no branch for it.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from distmgcd.environment import threads_asked_for, usable_cpus
from distmgcd.errors import UserError
from distmgcd.workers.agreement import Agreement
from distmgcd.workers.stop import Request
from distmgcd.workers.watchdog import Activity

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
    worker_failures: Sequence[str]  # what ended the workers before these, a sentence each

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model such that a backward pass averages gradients over all workers."""

    def share(self, model: nn.Module) -> None:
        """Give all workers the first one's weights; called by all of them. To wrap a model does so, too."""

    def start_average(self, values: Tensor) -> Callable[[], None]:
        """Begin to replace values by their mean over workers; what it returns waits for that. Called by all of them."""

    def mean(self, values: Tensor) -> Tensor:
        """The mean over workers of a tensor of the same shape in each; called by all of them."""

    def gather(self, values: Tensor, counts: Sequence[int] | None = None) -> Tensor:
        """The tensors [n_r, ...] of all workers, in rank order, one after the other; called by all of them.

        counts: the n_r, where they are known; else all workers wait to hear them.
        """

    def show(self, record: dict[str, Any]) -> None:
        """Show a record of the log to the user, if this worker can; called by rank 0."""

    def before_update(self, update: int) -> Request:
        """What to do before this update, the same in all workers; called by all of them before each one."""

    def leaving(self) -> bool:
        """Whether the run is asked to leave, the same in all workers; called by all of them, between two updates."""

    def meter(self, record: dict[str, Any], *, images_per_s: float) -> None:
        """Told what the log says of the last updates, and how many images a second this worker's share was.

        Called by all of them.
        """

    def busy(self, what: str) -> None:
        """Told before something that is no update, so that whoever watches this worker does not take it for stuck."""


class LocalWorker:
    """This process alone."""

    rank = 0
    world_size = 1
    worker_failures = ()

    def __init__(self, device: torch.device, show: Any = None, stop: Callable[[], bool] = lambda: False):
        """stop: whether the run is asked to save and leave."""
        self.device = device
        self._show, self._stop = show, stop

    def wrap(self, model: nn.Module) -> nn.Module:
        return model

    def share(self, model: nn.Module) -> None:
        pass

    def start_average(self, values: Tensor) -> Callable[[], None]:
        return lambda: None

    def before_update(self, update: int) -> Request:
        return Request.STOP if self._stop() else Request.CONTINUE

    def leaving(self) -> bool:
        return self._stop()

    def busy(self, what: str) -> None:
        pass

    def meter(self, record: dict[str, Any], *, images_per_s: float) -> None:
        pass

    def mean(self, values: Tensor) -> Tensor:
        return values

    def gather(self, values: Tensor, counts: Sequence[int] | None = None) -> Tensor:
        return values

    def show(self, record: dict[str, Any]) -> None:
        if self._show is not None:
            self._show(record)


class ProcessGroupWorker:
    """One rank of the default torch.distributed process group, whoever started it (Ray Train, torchrun, a test)."""

    def __init__(
        self,
        device: torch.device,
        show: Any = None,
        requested: Callable[[], Request] = lambda: Request.CONTINUE,
        worker_failures: Sequence[str] = (),
        meter: Callable[[dict[str, Any], float], None] | None = None,
    ):
        """requested: what this worker is asked for; what one of them is asked for, all do."""
        self.rank = dist.get_rank()
        self.world_size = dist.get_world_size()
        self.device = device
        self.worker_failures = worker_failures
        self.activity = Activity()
        self._show, self._requested, self._meter = show, requested, meter
        self._agreement = Agreement()
        self._kept = Request.CONTINUE  # what was agreed on while only leaving was asked after

    def wrap(self, model: nn.Module) -> nn.Module:
        # No buffers are broadcast: spectral norm's are a function of the weights, which are the same everywhere.
        if self.world_size == 1:
            return model
        device_ids = [self.device.index] if self.device.type == "cuda" else None
        wrapped = DistributedDataParallel(
            model, device_ids=device_ids, gradient_as_bucket_view=True, **{_SYNC_BUFFERS: False}
        )
        wrapped.register_forward_pre_hook(
            lambda *_: self.activity.wait()
        )  # soon the gradients meet those of the others
        return wrapped

    def share(self, model: nn.Module) -> None:
        with self._waiting():
            for value in model.state_dict().values():
                dist.broadcast(value, src=0)

    def start_average(self, values: Tensor) -> Callable[[], None]:
        values.mul_(1.0 / self.world_size)  # before they are added, as DDP does: two workers get the same bits by both
        work = dist.all_reduce(values, async_op=True)

        def wait() -> None:
            self.activity.wait()  # only now: whoever walks a chain needs nobody, whatever is on its way meanwhile
            work.wait()

        return wait

    def before_update(self, update: int) -> Request:
        agreed, self._kept = max(self._agree(), self._kept), Request.CONTINUE
        self.activity.update(update)
        return agreed

    def leaving(self) -> bool:
        self._kept = max(self._agree(), self._kept)
        return self._kept == Request.STOP

    def _agree(self) -> Request:
        with self._waiting():
            return self._agreement.next(self._requested())

    def busy(self, what: str) -> None:
        self.activity.other(what)

    def meter(self, record: dict[str, Any], *, images_per_s: float) -> None:
        if self._meter is not None:
            self._meter(record, images_per_s)

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        self.activity.wait()
        yield
        self.activity.wait(False)

    def mean(self, values: Tensor) -> Tensor:
        total = values.clone()
        with self._waiting():
            dist.all_reduce(total)
        return total / self.world_size

    def gather(self, values: Tensor, counts: Sequence[int] | None = None) -> Tensor:
        with self._waiting():
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
