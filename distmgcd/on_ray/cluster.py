"""Connecting to Ray: a cluster that is there, or one of our own that ends with us."""

import logging
import os
import secrets
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray  # noqa: E402  (telemetry must be off before)

from distmgcd.on_ray.job_note import keep_package  # noqa: E402


@contextmanager
def connected(*, num_cpus: int, log_to_driver: bool, dashboard: bool = True) -> Iterator[bool]:
    """Inside, Ray is there: the cluster of RAY_ADDRESS (then it gives True), or a local one with num_cpus logical CPUs.

    The local one is started with a dashboard on a free port of the loopback, because Ray Train asks it
    whether a run is still alive; two runs on one machine then do not take each other's for their own.
    log_to_driver: print here what its workers print. Those of a cluster always do. dashboard: false where no Ray
    Train run is to come; it holds 0.2 GB.
    """
    on_cluster = bool(os.environ.get("RAY_ADDRESS"))
    if ray.is_initialized():
        yield on_cluster
        return
    try:
        with _our_signal_handlers():
            _start(on_cluster, num_cpus=num_cpus, log_to_driver=log_to_driver, dashboard=dashboard)
        yield on_cluster
    finally:
        ray.shutdown()
        if not on_cluster:
            os.environ.pop("RAY_API_SERVER_ADDRESS", None)


def node_cpus() -> list[int]:
    """CPUs of every node that the cluster has now."""
    return [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]


def _start(on_cluster: bool, *, num_cpus: int, log_to_driver: bool, dashboard: bool) -> None:
    if on_cluster:
        ray.init(log_to_driver=True)
        keep_package()
    else:
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # nothing listens outside the loopback
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # no node of ours is pre-empted
        at = {}
        if dashboard:
            at["dashboard_port"] = free_port()
            os.environ["RAY_API_SERVER_ADDRESS"] = f"http://127.0.0.1:{at['dashboard_port']}"
        ray.init(
            address="local",
            num_cpus=num_cpus,
            include_dashboard=dashboard,
            logging_level=logging.WARNING,
            log_to_driver=log_to_driver,
            **at,
        )


@contextmanager
def _our_signal_handlers() -> Iterator[None]:
    """Ray takes SIGTERM for itself as it starts; whoever calls us keeps it.

    One that comes meanwhile is passed on. A Ray that has half started is of no use, so it ends the command, by
    KeyboardInterrupt.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit as end:
        if end.code != signal.SIGTERM or not callable(handler):
            raise
        handler(signal.SIGTERM, None)
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGTERM, handler)


def free_port() -> int:
    """A port for the dashboard, which starts some seconds later, and gives up if it is taken then.

    Not one that the system would hand out (from 32768 on, as Linux is set up) nor one of Ray's workers (10002 to
    19999): Ray's many processes ask for such ports meanwhile, those of other runs on the machine, too.
    """
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
