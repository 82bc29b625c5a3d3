"""How a group of workers begins and ends: before it is made anew because nodes came, it saves where it is.

Ray's own way out of a process group waits half a minute for workers that will never answer. Here a group of which
one worker is dead or frozen is left at once; Ray ends its processes.
"""

import time
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError
from ray.train.torch import TorchConfig

from distmgcd.on_ray.train.worker_process import ask_to_stop, is_training, meet_where_ray_does

_SECONDS_TO_ANSWER = 3.0
_SECONDS_TO_SAVE = 60.0

_TorchBackend = TorchConfig().backend_cls


class _Backend(_TorchBackend):
    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        """Called by Ray's controller before the workers meet."""
        worker_group.execute(meet_where_ray_does)
        super().on_start(worker_group, backend_config)

    def on_shutdown(self, worker_group: Any, backend_config: Any) -> None:
        """Called by Ray's controller while the worker processes still run."""
        training = _ask(worker_group, is_training)
        if training and all(training):  # a healthy group: nodes have come, or are about to be taken away
            _ask(worker_group, ask_to_stop)
            end = time.monotonic() + _SECONDS_TO_SAVE
            while training and any(training) and time.monotonic() < end:
                time.sleep(0.1)
                training = _ask(worker_group, is_training)
        if training and not any(training):
            super().on_shutdown(worker_group, backend_config)


@dataclass
class GroupConfig(TorchConfig):
    """TorchConfig whose groups end as above."""

    @property
    def backend_cls(self) -> type:
        return _Backend


def _ask(worker_group: Any, function: Any) -> list[Any] | None:
    """What a function returns in each worker; None if any of them does not answer."""
    try:
        return ray.get(worker_group.execute_async(function), timeout=_SECONDS_TO_ANSWER)
    except (RayError, TimeoutError):
        return None
