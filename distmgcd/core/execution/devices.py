"""What arithmetic a device has. Decided by its kind, never by timing, so that all workers and restarts decide alike."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def multiplies_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 matrices itself; others convert them to fp32 and back."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        found = getattr(torch.cpu, "get_capabilities", dict)()  # a torch without this function stays with fp32
        return any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16"))
    return False


@contextmanager
def fp32_products(*, tf32: bool) -> Iterator[None]:
    """Context in which fp32 convolutions and matrix products on a GPU use TF32 (factors rounded to 10 bits), or not.

    By default torch uses it for convolutions and not for matrix products.
    """
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)  # pyright: ignore[reportAttributeAccessIssue]
    before = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = "tf32" if tf32 else "ieee"
    try:
        yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision
