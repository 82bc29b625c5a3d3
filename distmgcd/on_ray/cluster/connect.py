"""Connecting to Ray: a cluster that is there, or one of our own that ends with us."""

import logging
import os
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import ray

from distmgcd.environment import ray_address
from distmgcd.errors import UserError
from distmgcd.on_ray.cluster.reach import check_head
from distmgcd.on_ray.cluster.temporary_folder import short_temporary_folder
from distmgcd.on_ray.jobs.job_note import keep_package


@contextmanager
def connected(
    *, num_cpus: int, log_to_driver: bool, dashboard: bool = True, say: Callable[[str], None] = lambda _: None
) -> Iterator[bool]:
    """Inside, Ray is there: one that is not ours (then it gives True), or a local one with num_cpus logical CPUs.

    Not ours is what this process has started itself, as in a notebook, and the cluster of RAY_ADDRESS.
    The local one is started with a dashboard on a free port of the loopback, because Ray Train asks it
    whether a run is still alive; two runs on one machine then do not take each other's for their own.
    log_to_driver: print here what its workers print. Those of a cluster always do. dashboard: false where no Ray
    Train run is to come; it holds 0.2 GB. say is called with what is done in another way than usual.
    Raises UserError, within seconds, if the cluster cannot be reached or Ray does not start.
    """
    if ray.is_initialized():
        _refuse_ray_client()
        yield True
        return
    address = ray_address()
    try:
        with _our_signal_handlers(), _as_mistakes(address):
            if address is None:
                _start(num_cpus=num_cpus, log_to_driver=log_to_driver, dashboard=dashboard, say=say)
            else:
                _join(address)
        yield address is not None
    finally:
        ray.shutdown()
        if address is None:
            os.environ.pop("RAY_API_SERVER_ADDRESS", None)


def node_cpus() -> list[int]:
    """CPUs of every node that the cluster has now."""
    return [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]


def _join(address: str) -> None:
    check_head(address)
    ray.init(address=address, log_to_driver=True)
    keep_package()


def _start(*, num_cpus: int, log_to_driver: bool, dashboard: bool, say: Callable[[str], None]) -> None:
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # nothing listens outside the loopback
    more = {}
    if dashboard:
        more["dashboard_port"] = free_port()
        os.environ["RAY_API_SERVER_ADDRESS"] = f"http://127.0.0.1:{more['dashboard_port']}"
    with short_temporary_folder(say) as folder:
        ray.init(
            address="local",
            num_cpus=num_cpus,
            include_dashboard=dashboard,
            logging_level=logging.WARNING,
            log_to_driver=log_to_driver,
            **({"_temp_dir": folder} if folder else {}),
            **more,
        )


@contextmanager
def _as_mistakes(address: str | None) -> Iterator[None]:
    """Whatever ray.init raises, in a sentence for the user."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}".rstrip(". ")
        if address is None:
            raise UserError(
                f"Ray does not start on this machine ({why}); `distmgcd debug` trains without it. If the reason does "
                "not help, see whether `ray start --head` says more."
            ) from error
        raise UserError(
            f"The cluster of RAY_ADDRESS={address} does not take this command ({why}); see with `ray status` whether "
            "it runs, with the same version of Ray and the same token as here, or unset RAY_ADDRESS to run on this "
            "machine alone."
        ) from error


def _refuse_ray_client() -> None:
    from ray.util.client import ray as client

    if client.is_connected():
        raise UserError(
            "This process is connected to its cluster by Ray Client (ray://), through which no training can be led; "
            "run on a node of the cluster with RAY_ADDRESS=HOST:6379, or from here with `distmgcd submit`."
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
