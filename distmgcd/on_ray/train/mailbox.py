"""Where driver, controller and workers of one run post things for each other.

It lives in the store of the cluster's head, which outlives every worker; a run's keys are its own. Ray offers
no public way to reach it; an actor of ours would cost a process of 200 MB instead.
"""

import json
import secrets
from typing import Any

from distmgcd.on_ray.internals import kv_delete, kv_delete_prefix, kv_get, kv_put

_NAMESPACE = b"distmgcd"


class RayMailbox:
    def __init__(self, run: str):
        """run: what no other run of the cluster is called."""
        self.run = run

    @staticmethod
    def new() -> "RayMailbox":
        return RayMailbox(secrets.token_hex(8))

    def put(self, key: str, value: Any) -> None:
        """value: anything that JSON holds."""
        kv_put(self._key(key), json.dumps(value).encode(), namespace=_NAMESPACE)

    def get(self, key: str) -> Any:
        """None where nothing was put."""
        text = kv_get(self._key(key), namespace=_NAMESPACE)
        return None if text is None else json.loads(text)

    def take(self, key: str) -> Any:
        """As get, and it is there no more. For the one reader of a key that is not written meanwhile."""
        value = self.get(key)
        kv_delete(self._key(key), namespace=_NAMESPACE)
        return value

    def clear(self) -> None:
        kv_delete_prefix(self._key(""), namespace=_NAMESPACE)

    def _key(self, key: str) -> bytes:
        return f"{self.run}/{key}".encode()


class RayHeartbeats:
    """The beats of one group of workers (see workers/watchdog.py); a later group's are others."""

    def __init__(self, mailbox: RayMailbox, group: str):
        self._mailbox, self._group = mailbox, group

    def post(self, rank: int, text: str) -> None:
        self._mailbox.put(f"heartbeat/{self._group}/{rank}", text)

    def read(self, rank: int) -> str | None:
        return self._mailbox.get(f"heartbeat/{self._group}/{rank}")
