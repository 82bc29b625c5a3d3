"""The same update, the same bit for bit on any number of workers.

Floating-point sums depend on their order and a convolution on the size of its batch, so workers that split a batch
otherwise end with other last bits. Here the batch is cut into N blocks of a fixed number of images. Every block is a
computation of its own, from pixels to gradient, and the N gradients are added along one binary tree over the blocks,
which does not depend on the workers:

    sum(first, last) = sum(first, middle) + sum(middle, last)          middle = (first + last) // 2

A worker computes the sums of the nodes that its own blocks fill, all workers gather these few sums, and each of them
adds up the rest. The price: smaller batches in the chain, and communication that does not overlap with computation.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from distmgcd.core.energy import MultiGridEnergy, frozen_norms
from distmgcd.core.learning import NUM_MEANS, Learned, Learner, Method, means_of, sample_pairs, step_all, with_norms
from distmgcd.core.synthesis import PreviousEnds

Node = tuple[int, int]  # a range of blocks: first, and one past the last


@dataclass(frozen=True)
class Blocks:
    """How the blocks of a batch are spread over workers."""

    size: int  # images in a block
    shares: Sequence[Node]  # the blocks of every rank, in order
    rank: int
    # From the values [n_r, ...] of every rank and the numbers n_r: those of all ranks, one after the other.
    gather: Callable[[Tensor, Sequence[int]], Tensor]

    @property
    def whole(self) -> Node:
        """All blocks: the root of the tree."""
        return (0, self.shares[-1][1])


def learn_in_blocks(
    learner: Learner,
    pixels: Tensor,
    indices: Tensor,
    update: int,
    method: Method,
    *,
    blocks: Blocks,
    previous: PreviousEnds | None = None,
) -> Learned:
    """One update of all grids, as learning.learn, on this worker's blocks [B, C, S, S]."""
    first_block = blocks.shares[blocks.rank][0]
    ends: list[list[Tensor]] = []

    def gradient_and_means(block: int) -> Tensor:
        part = slice((block - first_block) * blocks.size, (block - first_block + 1) * blocks.size)
        synthesised, values = of_block(
            learner.model, pixels[part], indices[part], update, method, previous and previous.at(part)
        )
        ends.append(synthesised)
        return values

    with frozen_norms(learner.model):
        nodes = nodes_of(blocks.shares[blocks.rank], blocks.whole)
        sums = torch.stack([sum_over(node, gradient_and_means) for node in nodes])
    total = sum_of_all(sums, blocks) / blocks.whole[1]
    gradient, means = total.split([total.numel() - NUM_MEANS * len(method.sizes), NUM_MEANS * len(method.sizes)])
    set_gradients(learner.model, gradient)
    norms = step_all(learner, update, method)
    metrics = with_norms(means.view(len(method.sizes), NUM_MEANS), norms)
    return Learned(metrics, [torch.cat(level) for level in zip(*ends, strict=True)])


def of_block(
    model: MultiGridEnergy, pixels: Tensor, indices: Tensor, update: int, method: Method, previous: PreviousEnds | None
) -> tuple[list[Tensor], Tensor]:
    """The ends of a block's chains, G of [b, C, s, s], and its gradient and its metrics in one [P + G * NUM_MEANS]."""
    pairs = sample_pairs(model, pixels, indices, update, method, previous)
    energies = model(pairs.observed, pairs.synthesised)
    gradients = torch.autograd.grad((energies[0] - energies[1]).sum(), list(model.parameters()))
    means = means_of(energies.detach(), pairs)
    return pairs.synthesised, torch.cat([value.flatten() for value in (*gradients, means)])


def nodes_of(share: Node, node: Node) -> list[Node]:
    """The fewest nodes of the tree below `node` that together are the share, in order."""
    (first, last), (low, high) = node, share
    if high <= first or last <= low:
        return []
    if low <= first and last <= high:
        return [node]
    middle = (first + last) // 2
    return nodes_of(share, (first, middle)) + nodes_of(share, (middle, last))


def sum_over(node: Node, value_of: Callable[[int], Tensor]) -> Tensor:
    """The sum over the blocks of a node, along the tree; value_of is called in the order of the blocks."""
    first, last = node
    if last - first == 1:
        return value_of(first)
    middle = (first + last) // 2
    return sum_over((first, middle), value_of) + sum_over((middle, last), value_of)


def sum_of_all(sums: Tensor, blocks: Blocks) -> Tensor:
    """The sum over all blocks [...], from the sums [n, ...] of this worker's nodes; all workers call it."""
    nodes = [nodes_of(share, blocks.whole) for share in blocks.shares]
    gathered = blocks.gather(sums, [len(of_rank) for of_rank in nodes])
    known = dict(zip([node for of_rank in nodes for node in of_rank], gathered, strict=True))

    def total(node: Node) -> Tensor:
        if node in known:
            return known[node]
        first, last = node
        middle = (first + last) // 2
        return total((first, middle)) + total((middle, last))

    return total(blocks.whole)


def set_gradients(model: MultiGridEnergy, gradient: Tensor) -> None:
    """Give every parameter its part of one flat gradient [P]."""
    parameters = list(model.parameters())
    for parameter, part in zip(parameters, gradient.split([p.numel() for p in parameters]), strict=True):
        parameter.grad = part.view_as(parameter)
