"""How far a job is, in the cluster's record of it: `distmgcd jobs list` and the dashboard show that."""

import json
import os
import time
from contextlib import suppress
from typing import Any

from distmgcd.on_ray.internals import kv_get, kv_put, pin_package
from distmgcd.on_ray.train.mailbox import RayMailbox

_NAMESPACE = b"job"  # of Ray, as is the key
_SECONDS_BETWEEN = 5.0
_SECONDS_KEPT = 3600  # it lies in the memory of the cluster's head
_KEY = "_ray_internal_job_info_{}"


class JobNote:
    """How far a run is, as its rank 0 posts it in the mailbox, for `distmgcd jobs list`."""

    def __init__(self, mailbox: RayMailbox):
        self._mailbox = mailbox
        self._noted: str | None = None
        self._looked = 0.0

    def update(self) -> None:
        """Now and then, if it has changed."""
        if not _job() or time.monotonic() - self._looked < _SECONDS_BETWEEN:
            return
        self._looked = time.monotonic()
        if (progress := self._mailbox.get("progress")) and progress != self._noted:
            self._noted = progress
            note_update(progress)


def note_update(text: str) -> None:
    """Nothing happens in a command that is no job.

    Ray has no way to change metadata, so this writes its record. Its supervisor of the job writes that too, but only
    before this process starts and after it has ended.
    """
    if not (job := _job()):
        return
    with suppress(Exception):  # it is for a person's eyes only
        key = _KEY.format(job).encode()
        found = json.loads(kv_get(key, namespace=_NAMESPACE) or b"")
        found["metadata"] = {**(found.get("metadata") or {}), "update": text}
        kv_put(key, json.dumps(found).encode(), namespace=_NAMESPACE)


def keep_package() -> None:
    """Let the cluster keep for a while what this job was sent with, so that the next submission need not send it.

    Else it is deleted as soon as no job uses it.
    """
    package = _job_config().get("runtime_env", {}).get("working_dir", "")
    if package.startswith("gcs://"):
        with suppress(Exception):  # it is sent again then
            pin_package(package, seconds=_SECONDS_KEPT)


def _job() -> str | None:
    """The id under which this process was submitted."""
    return _job_config().get("metadata", {}).get("job_submission_id")


def _job_config() -> dict[str, Any]:
    """What Ray hands to the process of a job; empty in any other."""
    return json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
