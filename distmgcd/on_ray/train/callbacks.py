"""A user's callbacks on their way to the process of rank 0."""

import base64
import pickle
from collections.abc import Sequence

from distmgcd.errors import UserError
from distmgcd.on_ray.internals import pickled
from distmgcd.training.callbacks import Callback


def pack_callbacks(callbacks: Sequence[Callback]) -> str:
    """Raises UserError for one that cannot be pickled."""
    for callback in callbacks:
        try:
            pickled(callback)
        except Exception as error:  # whatever its own methods raise
            raise UserError(
                f"The callback {type(callback).__name__} cannot be pickled for the process of a worker "
                f"({_in_short(error)}); open files, locks and connections in its on_start instead."
            ) from error
    return base64.b64encode(pickled(list(callbacks))).decode()


def unpack_callbacks(packed: str) -> list[Callback]:
    """Raises UserError where this process does not find their classes."""
    try:
        return pickle.loads(base64.b64decode(packed))
    except Exception as error:
        raise UserError(
            f"The callbacks cannot be unpickled in the process of a worker ({_in_short(error)}); define them in the "
            "script itself, or in a module that every node can import."
        ) from error


def _in_short(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}".rstrip(": .")
