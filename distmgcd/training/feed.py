"""Images on the worker's device; a GPU gets those of the next update while it computes the present one."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Batch(NamedTuple):
    """The images of an update on the device."""

    pixels: Tensor  # uint8 [b, C, S, S]
    indices: Tensor  # int64 [b], where each stands in the data set


class Feed:
    """Reads images from the memory-mapped cache and sends them to the device.

    From pinned memory, in a stream of its own: a copy from any other memory makes the host wait until the GPU has done
    all that it was given before.
    """

    def __init__(self, images: np.ndarray, device: torch.device, *, ahead: bool | None = None):
        """images: uint8 [N, C, S, S]. ahead: whether read_ahead does anything; None: on a GPU."""
        self._images, self._device = images, device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._ahead = device.type == "cuda" if ahead is None else ahead
        self._next: tuple[Tensor, Batch] | None = None  # what was read ahead, after its indices on the CPU

    def read(self, indices: Tensor) -> Batch:
        """The images with these indices, int64 [b] on the CPU."""
        found, self._next = self._next, None
        batch = found[1] if found and torch.equal(found[0], indices) else self._send(indices)
        if self._stream:
            present = torch.cuda.current_stream(self._device)
            present.wait_stream(self._stream)
            for values in batch:
                values.record_stream(present)
        return batch

    def read_ahead(self, indices: Tensor) -> None:
        """These images will be asked for next. Called when the device has been given the work of this update."""
        if self._ahead:
            self._next = indices, self._send(indices)

    def _send(self, indices: Tensor) -> Batch:
        on_host = Batch(torch.from_numpy(self._images[indices.numpy()]), indices)
        if not self._stream:
            return Batch(*(values.to(self._device) for values in on_host))
        with torch.cuda.stream(self._stream):
            return Batch(*(values.pin_memory().to(self._device, non_blocking=True) for values in on_host))
