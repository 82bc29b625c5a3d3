"""Connecting to Ray: a cluster that is there, or one of our own that ends with us."""

import logging
import os
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import ray

from distmgcd.environment import ray_address
from distmgcd.errors import UserError
from distmgcd.on_ray.internals import GLOBAL_GRPC_OPTIONS, get_default_ray_temp_dir, init_grpc_channel
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


# Whether the head of a cluster answers: asked before Ray is, which would try for minutes.

_SECONDS_TO_CONNECT = 5.0


def check_head(address: str) -> None:
    """Raise UserError if no head of a Ray cluster answers at HOST:PORT. What auto means, only Ray knows."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    try:
        connect(host.strip("[]"), int(port))
    except OSError as error:
        raise UserError(
            f"No cluster answers at RAY_ADDRESS={address} ({in_short(error)}); give HOST:PORT of a head that runs, "
            "such as 10.0.0.1:6379 (`ray start --head` prints it), or unset RAY_ADDRESS to run on this machine alone."
        ) from None
    channel: Any = init_grpc_channel(address, options=GLOBAL_GRPC_OPTIONS)
    try:
        grpc.channel_ready_future(channel).result(timeout=_SECONDS_TO_CONNECT)
    except grpc.FutureTimeoutError:
        raise UserError(
            f"Something answers at RAY_ADDRESS={address}, but it is not the head of a Ray cluster; its port is 6379 "
            "unless it was started with another, and 8265 is that of the dashboard, for `distmgcd submit --address`."
        ) from None
    finally:
        channel.close()


def connect(host: str, port: int) -> None:
    """Raises OSError if nobody listens there."""
    socket.create_connection((host, port), timeout=_SECONDS_TO_CONNECT).close()


def in_short(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split())[:200].rstrip(".")


# Where a Ray of our own keeps its sockets: their paths must be short, and their folder must be ours to write.

_LONGEST_SOCKET = 107  # bytes of a path that Linux takes for a socket
_BELOW = "/session_2000-01-01_00-00-00_000000_9999999/sockets/plasma_store"
_OTHER = "/tmp/ray"


@contextmanager
def short_temporary_folder(say: Callable[[str], None]) -> Iterator[str | None]:
    """Inside, Ray can be started: with the folder that is given, None where its own choice is good (TMPDIR, /tmp).

    Another folder than its own is said. TMPDIR changes meanwhile, too: the processes of Ray open sockets there.
    Raises UserError if no folder does.
    """
    if (folder := _other_folder(say)) is None:
        yield None
        return
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(Path(folder).parent)
    try:
        yield folder
    finally:
        os.environ.pop("TMPDIR")
        if before is not None:
            os.environ["TMPDIR"] = before


def _other_folder(say: Callable[[str], None]) -> str | None:
    usual = get_default_ray_temp_dir()
    if (why := _unfit(usual)) is None:
        return None
    for other in (_OTHER, f"{_OTHER}-{os.getuid()}"):
        if other != usual and _unfit(other) is None:
            say(f"Ray keeps its sockets and logs in {other}, for {usual} {why}.")
            return other
    raise UserError(
        f"Ray cannot keep its sockets in {usual}, which {why}, nor in {_OTHER}; set RAY_TMPDIR to a folder with a "
        "short path that you can write."
    )


def _unfit(folder: str) -> str | None:
    """Why Ray cannot use a folder."""
    length = len(os.fsencode(os.path.abspath(folder) + _BELOW))
    if length > _LONGEST_SOCKET:
        return f"is too long a path for them by {length - _LONGEST_SOCKET} bytes"
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return f"cannot be made ({error.strerror or error})"
    return None if os.access(folder, os.W_OK | os.X_OK) else "cannot be written"
