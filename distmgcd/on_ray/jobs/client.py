"""Jobs on a cluster, through the HTTP address of its head. No credential is ever printed."""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from distmgcd.errors import UserError

_TOKEN_FILE = Path("~/.ray/auth_token").expanduser()
if "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ or _TOKEN_FILE.is_file():
    os.environ.setdefault("RAY_AUTH_MODE", "token")  # who has a token means to use it; read as ray is imported

from aiohttp import ClientError  # noqa: E402
from ray.exceptions import AuthenticationError  # noqa: E402
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient  # noqa: E402

from distmgcd.on_ray.cluster.connect import connect, in_short  # noqa: E402

_SECONDS_BETWEEN_LOOKS = 1.0
_SECONDS_TO_COME_BACK = 60.0  # for a head whose connection broke

# A run that is asked to stop finishes its update and saves; Ray's own patience is 3 s.
SECONDS_TO_STOP = 120


class Jobs:
    def __init__(self, address: str):
        """address: http://HOST:PORT, or HOST:PORT. Raises UserError if no Ray lets us in there."""
        self.address = address if "://" in address else f"http://{address}"
        _see_whether_someone_listens(self.address)
        os.environ["RAY_API_SERVER_ADDRESS"] = self.address  # or else the variable would win
        logging.getLogger("ray.dashboard").setLevel(logging.ERROR)
        for name in ("sdk", "dashboard_sdk"):  # their own levels
            module = "ray.dashboard.modules." + ("job.sdk" if name == "sdk" else name)
            logging.getLogger(module).setLevel(logging.ERROR)
        with self._sentences():
            self._client = _Client(self.address)

    def submit(
        self,
        entrypoint: str,
        *,
        job: str,
        package: Path | None,
        runtime_env: dict[str, Any],
        metadata: dict[str, str],
    ) -> int | None:
        """Send a job; returns how many bytes of the package were sent, None if the cluster had it already.

        package: a zip that becomes the job's folder and stands first in its PYTHONPATH.
        """
        environment = {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(SECONDS_TO_STOP)}, **runtime_env}
        if package is not None:
            environment["working_dir"] = str(package)
        with self._sentences():
            self._client.submit_job(
                entrypoint=entrypoint, submission_id=job, runtime_env=environment, metadata=metadata
            )
        return self._client.bytes_sent

    def jobs(self) -> list[JobDetails]:
        """Those that were submitted, the newest first."""
        with self._sentences():
            found = [job for job in self._client.list_jobs() if job.submission_id]
        return sorted(found, key=lambda job: job.start_time or 0, reverse=True)

    def find(self, word: str) -> str:
        """The id of a job by its id or its name: of several, the one that has not ended, or else the newest.

        Raises UserError if there is none, or if several of the name have not ended.
        """
        jobs = self.jobs()
        if word in (job.submission_id for job in jobs):
            return word
        named = [job for job in jobs if (job.metadata or {}).get("name") == word]
        found = [job for job in named if not job.status.is_terminal()] or named[:1]
        if len(found) > 1:
            ids = ", ".join(job.submission_id or "" for job in found)
            raise UserError(f"{len(found)} jobs named {word} have not ended: {ids}; give one of these instead.")
        return (found[0].submission_id or word) if found else word  # an id it may be, that the list no longer has

    def details(self, job: str) -> JobDetails:
        with self._sentences(job):
            return self._client.get_job_info(job)

    def logs(self, job: str) -> str:
        """What it has printed so far."""
        with self._sentences(job):
            return self._client.get_job_logs(job)

    def follow(self, job: str, write: Callable[[str], None]) -> None:
        """Pass on what a job prints, from its start until its end; a connection that breaks is taken up again."""
        shown, lost_since = _Shown(write), None
        while True:
            before = shown.length
            with suppress(OSError, RuntimeError, ClientError):  # the connection broke
                asyncio.run(self._tail(job, shown))
            try:
                if self.details(job).status.is_terminal():
                    shown(self.logs(job), at=0)
                    return
                lost_since = None
            except UserError:
                lost_since = lost_since or time.monotonic()
                if shown.length == before and time.monotonic() - lost_since > _SECONDS_TO_COME_BACK:
                    raise
            time.sleep(_SECONDS_BETWEEN_LOOKS)

    def stop(self, job: str) -> bool:
        """Ask a job to stop: a run finishes its update and saves. False if it had ended already."""
        with self._sentences(job):
            return self._client.stop_job(job)

    def exit_status(self, job: str) -> int:
        """Of a job that has ended: its command's own."""
        found = self.details(job)
        if found.driver_exit_code is not None:
            return found.driver_exit_code if found.driver_exit_code >= 0 else 128 - found.driver_exit_code
        return {JobStatus.SUCCEEDED: 0, JobStatus.STOPPED: 143}.get(found.status, 1)

    async def _tail(self, job: str, shown: "_Shown") -> None:
        at = 0
        async for text in self._client.tail_job_logs(job):
            shown(text, at=at)
            at += len(text)

    @contextmanager
    def _sentences(self, job: str | None = None) -> Iterator[None]:
        """What can go wrong with a request, in a sentence for the user."""
        try:
            yield
        except AuthenticationError as error:
            raise UserError(_refusal(self.address, missing="401" in str(error) or "required" in str(error))) from None
        except (OSError, RuntimeError, ValueError) as error:
            if job is not None and "does not exist" in str(error):
                raise UserError(
                    f"The cluster at {self.address} knows no job {job}; `distmgcd jobs list` shows those it knows."
                ) from None
            raise UserError(
                f"The cluster at {self.address} does not do what was asked ({in_short(error)}); check that this is "
                "the address of a Ray dashboard."
            ) from None


class _Shown:
    """Passes a text on, each character once, that is read from its start anew whenever a connection broke."""

    def __init__(self, write: Callable[[str], None]):
        self.length = 0
        self._write = write

    def __call__(self, text: str, *, at: int) -> None:
        """at: where in the whole text this piece stands."""
        if new := text[max(0, self.length - at) :]:
            self._write(new)
            self.length += len(new)


class _Client(JobSubmissionClient):
    """Remembers how large the package was that it sent."""

    bytes_sent: int | None = None

    def _upload_package(self, package_uri: str, package_path: str, *more: Any, **further: Any) -> Any:
        self.bytes_sent = Path(package_path).stat().st_size
        return super()._upload_package(package_uri, package_path, *more, **further)


def _see_whether_someone_listens(address: str) -> None:
    """Raise UserError if nobody does. Ray's client would wait for minutes for a host that drops packets."""
    parts = urlsplit(address)
    try:
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("it must read http://HOST:PORT")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        connect(parts.hostname, port)
    except (OSError, ValueError) as error:
        raise UserError(
            f"No cluster answers at --address {address} ({in_short(error)}); give its dashboard's address, or open a "
            "way to it first: `ssh -L 8265:localhost:8265 HEAD` or `kubectl port-forward service/HEAD 8265`."
        ) from None


def _refusal(address: str, *, missing: bool) -> str:
    where = "~/.ray/auth_token, RAY_AUTH_TOKEN_PATH or RAY_AUTH_TOKEN"
    if missing:
        return f"The cluster at {address} asks for a token, but there is none here; put the cluster's into {where}."
    return f"The cluster at {address} refuses the token that is here; put the cluster's into {where}."
