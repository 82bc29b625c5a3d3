"""The client of jobs, against a server that plays the head of a cluster; the real one is in cluster_rehearsal."""

import json
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from distmgcd.errors import UserError
from distmgcd.on_ray.jobs.client import Jobs


class Head(ThreadingHTTPServer):
    """What it knows of jobs, and what it was sent. It knows no websockets, as a tunnel that breaks."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.refuses: int | None = None
        self.packages: dict[str, int] = {}
        self.submitted: list[dict[str, Any]] = []
        self.job: dict[str, Any] = {"type": "SUBMISSION", "submission_id": "a", "entrypoint": "", "status": "RUNNING"}
        self.others: list[dict[str, Any]] = []
        self.logs = [""]  # what the job has printed, each time that somebody asks; then it has ended


class _Answers(BaseHTTPRequestHandler):
    server: Head

    def do_GET(self) -> None:
        if self.server.refuses:
            self._say(self.server.refuses, "Unauthorized" if self.server.refuses == 401 else "Forbidden")
        elif self.path == "/api/version":
            self._say(200, {"ray_version": "2.60.0"})
        elif self.path.startswith("/api/packages/"):
            self._say(200 if self.path in self.server.packages else 404, "")
        elif self.path == "/api/jobs/a":
            self._say(200, self.server.job)
        elif self.path == "/api/jobs/a/logs":
            text, *left = self.server.logs
            self.server.logs = left or [text]
            self._say(200, {"logs": text})
        elif self.path == "/api/jobs/":
            self._say(200, [self.server.job, *self.server.others])
        else:
            self._say(404, f"{self.path} does not exist")

    def do_PUT(self) -> None:
        self.server.packages[self.path] = len(self._body())
        self._say(200, "")

    def do_POST(self) -> None:
        self.server.submitted.append(json.loads(self._body()))
        self._say(200, {"submission_id": "a", "job_id": "a"})

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def _say(self, status: int, what: Any) -> None:
        body = (what if isinstance(what, str) else json.dumps(what)).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> Iterator[Head]:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:1")  # --address is stronger
    server = Head()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def submit(head: Head, package: Path | None, **environment: Any) -> int | None:
    return Jobs(head.address).submit(
        "exec python", job="a", package=package, runtime_env=environment, metadata={"preset": "digits"}
    )


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:1", "127.0.0.1:1", "ftp://127.0.0.1", "http://no.such.host.invalid:1"]
)
def test_where_nobody_answers_is_said_at_once(address: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "")
    with pytest.raises(UserError, match=r"No cluster answers at --address .*127|No cluster answers .*host"):
        Jobs(address)


@pytest.mark.parametrize(("status", "said"), [(401, "asks for a token"), (403, "refuses the token"), (404, "Ray dash")])
def test_who_does_not_let_us_in_is_told_apart(head: Head, status: int, said: str):
    head.refuses = status
    with pytest.raises(UserError, match=said) as refusal:
        Jobs(head.address)
    assert "\n" not in str(refusal.value)


def test_a_package_is_sent_once(head: Head, tmp_path: Path):
    package = tmp_path / "package.zip"
    package.write_bytes(b"PK\5\6" + bytes(18))  # an empty zip
    assert submit(head, package) == 22
    assert submit(head, package) is None
    assert list(head.packages.values()) == [22]
    assert head.submitted[0]["runtime_env"]["working_dir"].startswith("gcs://_ray_pkg_")
    assert head.submitted[0]["metadata"] == {"preset": "digits"}


def test_a_job_without_a_package_names_what_is_there(head: Head):
    assert submit(head, None, image_uri="repo/image:1") is None
    assert head.submitted[0]["runtime_env"]["image_uri"] == "repo/image:1"
    assert not head.packages and "working_dir" not in head.submitted[0]["runtime_env"]


@pytest.mark.filterwarnings("ignore:ssl=None is deprecated")  # of what Ray says to aiohttp
@pytest.mark.parametrize("streams", [[], [["one\ntw"], ["one\n", "two\n"]], [["one\n"], []]], ids=str)
def test_what_a_job_prints_is_passed_on_once_however_often_the_connection_breaks(
    head: Head, monkeypatch: pytest.MonkeyPatch, streams: list[list[str]]
):
    """streams: what comes over each connection until it breaks; then there are no more, but it can be asked."""
    monkeypatch.setattr("distmgcd.on_ray.jobs.client._SECONDS_BETWEEN_LOOKS", 0.01)
    head.logs = ["one\ntwo\nthree\n"]
    cluster, written, left = Jobs(head.address), [], list(streams)

    async def tail(job: str) -> AsyncIterator[str]:
        if not left:
            head.job.update(status="SUCCEEDED", driver_exit_code=0)
            raise RuntimeError("WebSocket connection closed unexpectedly")
        for text in left.pop(0):
            yield text
        raise RuntimeError("WebSocket connection closed unexpectedly")

    if streams:
        monkeypatch.setattr(cluster._client, "tail_job_logs", tail)
    else:  # the server knows no websockets
        threading.Timer(0.2, head.job.update, [{"status": "SUCCEEDED", "driver_exit_code": 0}]).start()
    cluster.follow("a", written.append)
    assert "".join(written) == "one\ntwo\nthree\n" and cluster.exit_status("a") == 0


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [("FAILED", 2, 2), ("FAILED", -9, 137), ("FAILED", None, 1), ("STOPPED", None, 143), ("SUCCEEDED", 0, 0)],
)
def test_the_exit_status_is_the_commands_own(head: Head, status: str, code: int | None, expected: int):
    head.job.update(status=status, driver_exit_code=code)
    assert Jobs(head.address).exit_status("a") == expected


def test_an_unknown_job_is_a_sentence(head: Head):
    with pytest.raises(UserError, match="knows no job b; `distmgcd jobs list`"):
        Jobs(head.address).logs("b")


def job(id: str, name: str, status: str, started: int) -> dict[str, Any]:
    return {
        "type": "SUBMISSION",
        "submission_id": id,
        "entrypoint": "",
        "status": status,
        "start_time": started,
        "metadata": {"name": name},
    }


def test_a_job_is_found_by_its_id_and_by_the_name_that_the_list_shows(head: Head):
    head.others = [
        job("train-faces-1", "faces", "STOPPED", 1),
        job("train-faces-2", "faces", "RUNNING", 2),
        job("train-cats-1", "cats", "FAILED", 3),
        job("train-cats-2", "cats", "SUCCEEDED", 4),
    ]
    found = {word: Jobs(head.address).find(word) for word in ("a", "faces", "train-faces-1", "cats", "dogs")}
    assert list(found.values()) == ["a", "train-faces-2", "train-faces-1", "train-cats-2", "dogs"]


def test_a_name_that_two_jobs_bear_is_a_sentence_with_their_ids(head: Head):
    head.others = [job("train-faces-1", "faces", "PENDING", 1), job("train-faces-2", "faces", "RUNNING", 2)]
    with pytest.raises(UserError, match="2 jobs named faces have not ended: train-faces-2, train-faces-1; give one"):
        Jobs(head.address).find("faces")
