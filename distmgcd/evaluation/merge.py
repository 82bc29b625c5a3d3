"""What workers have each computed of their share, put together. Tensors on the CPU; called by all workers."""

import torch
import torch.distributed as dist
from torch import Tensor

from distmgcd.data import shard
from distmgcd.workers.collectives import Worker


def own_batches(num: int, batch_size: int, worker: Worker) -> list[Tensor]:
    """The numbers 0 .. num - 1 of this worker, in batches: whole ones of all, so that a batch is the same for any
    number of workers, and so is every picture in it."""
    batches = torch.arange(num).split(batch_size)
    return list(batches[shard(len(batches), worker.rank, worker.world_size)])


def in_order(rows: Tensor, worker: Worker) -> Tensor | None:
    """The rows [n_r, ...] of all workers, one after the other, in the first worker; None in the others."""
    if worker.world_size == 1:
        return rows
    counts = [torch.zeros(1, dtype=torch.int64) for _ in range(worker.world_size)]
    dist.all_gather(counts, torch.tensor([len(rows)]))
    most = max(map(int, counts))
    padded = torch.cat([rows, rows.new_zeros(most - len(rows), *rows.shape[1:])])
    parts = [torch.empty_like(padded) for _ in counts] if worker.rank == 0 else None
    dist.gather(padded, parts)
    return None if parts is None else torch.cat([p[: int(n)] for p, n in zip(parts, counts, strict=True)])


def summed(values: Tensor, worker: Worker) -> Tensor:
    """The sum over workers, in all of them."""
    total = values.clone()
    if worker.world_size > 1:
        dist.all_reduce(total)
    return total


def from_first(value: Tensor | None, worker: Worker) -> Tensor:
    """The first worker's tensor, in all of them."""
    if worker.world_size > 1:
        found = [value]
        dist.broadcast_object_list(found)
        value = found[0]
    return value
