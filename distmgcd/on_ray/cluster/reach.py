"""Whether the head of a cluster answers: asked before Ray is, which would try for minutes."""

import socket

import grpc
from ray._private.grpc_utils import init_grpc_channel
from ray._private.ray_constants import GLOBAL_GRPC_OPTIONS

from distmgcd.errors import UserError

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
    channel = init_grpc_channel(address, options=GLOBAL_GRPC_OPTIONS)
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
