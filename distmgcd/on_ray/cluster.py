"""Connecting to Ray: a cluster that is there, or one of our own that ends with us."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray  # noqa: E402  (telemetry must be off before)


@contextmanager
def connected(*, num_cpus: int, log_to_driver: bool) -> Iterator[None]:
    """Inside, Ray is there: the cluster of RAY_ADDRESS, or a local one with num_cpus logical CPUs.

    The local one is started with a dashboard on a free port of the loopback, because Ray Train asks it
    whether a run is still alive; two runs on one machine then do not take each other's for their own.
    log_to_driver: print here what its workers print. Those of a cluster always do.
    """
    if ray.is_initialized():
        yield
        return
    if os.environ.get("RAY_ADDRESS"):
        ray.init(log_to_driver=True)
    else:
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # nothing listens outside the loopback
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # no node of ours is pre-empted
        port = _free_port()
        os.environ["RAY_API_SERVER_ADDRESS"] = f"http://127.0.0.1:{port}"
        ray.init(
            address="local",
            num_cpus=num_cpus,
            include_dashboard=True,
            dashboard_port=port,
            logging_level=logging.WARNING,
            log_to_driver=log_to_driver,
        )
    try:
        yield
    finally:
        ray.shutdown()
        if not os.environ.get("RAY_ADDRESS"):
            os.environ.pop("RAY_API_SERVER_ADDRESS", None)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
