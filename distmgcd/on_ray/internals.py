"""Every private name of Ray that this package uses, and why. For their sake pyproject.toml bounds Ray's version.

Beside these: methods that jobs/client.py and train/backend.py override, and Tune's file of a trial's last error.
"""

from typing import Any

from ray import cloudpickle
from ray._common.utils import get_default_ray_temp_dir
from ray._private.grpc_utils import init_grpc_channel
from ray._private.ray_constants import GLOBAL_GRPC_OPTIONS
from ray._private.state import state as cluster_state
from ray.autoscaler.v2.sdk import get_cluster_status
from ray.experimental import internal_kv

__all__ = [
    # Ray's own choice of a folder for its sockets: checked, as too long a path ends ray.init with a riddle.
    "get_default_ray_temp_dir",
    # A channel with the cluster's token and TLS: ray.init tries for minutes to reach a head that is not there.
    "GLOBAL_GRPC_OPTIONS",
    "init_grpc_channel",
    # What an autoscaler may add, and whether there is one: nothing else says it.
    "cluster_state",
    "get_cluster_status",
    # The store of the cluster's head, which outlives every worker; an actor of ours would cost a process of 200 MB.
    "kv_delete",
    "kv_delete_prefix",
    "kv_get",
    "kv_put",
    # Keeps the package of a job on the cluster for a while.
    "pin_package",
    # Pickles classes of a script or a notebook, which plain pickle does not.
    "pickled",
]


def pickled(value: Any) -> bytes:
    return cloudpickle.dumps(value)  # pyright: ignore[reportPrivateImportUsage]


def kv_put(key: bytes, value: bytes, *, namespace: bytes) -> None:
    internal_kv._internal_kv_put(key, value, overwrite=True, namespace=namespace)


def kv_get(key: bytes, *, namespace: bytes) -> bytes | None:
    return internal_kv._internal_kv_get(key, namespace=namespace)


def kv_delete(key: bytes, *, namespace: bytes) -> None:
    internal_kv._internal_kv_del(key, namespace=namespace)


def kv_delete_prefix(prefix: bytes, *, namespace: bytes) -> None:
    internal_kv._internal_kv_del(prefix, del_by_prefix=True, namespace=namespace)


def pin_package(uri: str, *, seconds: int) -> None:
    internal_kv._pin_runtime_env_uri(uri, expiration_s=seconds)
