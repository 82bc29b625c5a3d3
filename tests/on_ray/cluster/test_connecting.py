"""Ray that cannot be joined or started is a sentence, and soon; no Ray is started here."""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from distmgcd.errors import UserError
from distmgcd.on_ray.cluster import connect
from distmgcd.on_ray.cluster.connect import connected, short_temporary_folder


@pytest.fixture
def deaf_port() -> Iterator[int]:
    """Of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def mistake_of_joining(**how) -> str:
    with pytest.raises(UserError) as mistake, connected(num_cpus=1, log_to_driver=False, **how):
        pass
    assert "\n" not in str(mistake.value)
    return str(mistake.value)


def test_a_cluster_that_does_not_answer_is_told_at_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    start = time.monotonic()
    assert "No cluster answers at RAY_ADDRESS=127.0.0.1:1 (Connection refused)" in mistake_of_joining()
    assert time.monotonic() - start < 5


def test_what_answers_but_is_no_head_is_told(monkeypatch: pytest.MonkeyPatch, deaf_port: int):
    monkeypatch.setattr(connect, "_SECONDS_TO_CONNECT", 0.2)
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{deaf_port}")
    assert "is not the head of a Ray cluster" in mistake_of_joining()


@pytest.mark.parametrize(
    ("address", "said"),
    [("10.0.0.1:6379", "The cluster of RAY_ADDRESS=10.0.0.1:6379 does not take"), ("", "Ray does not start on this")],
)
@pytest.mark.parametrize("error", [ConnectionError("no\n way"), RuntimeError("Version mismatch"), OSError(28, "full")])
def test_whatever_ray_raises_as_it_starts_is_a_sentence(monkeypatch, address: str, said: str, error: Exception):
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr(connect, "check_head", lambda _: None)
    monkeypatch.setattr(ray, "init", fail)
    text = mistake_of_joining()
    assert text.startswith(said) and type(error).__name__ in text
    assert "RAY_API_SERVER_ADDRESS" not in os.environ


def test_a_ray_that_is_there_is_joined_whoever_started_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "shutdown", lambda: pytest.fail("it is not ours"))
    with connected(num_cpus=1, log_to_driver=False) as joined:
        assert joined


def chosen_folder(said: list[str]) -> tuple[str | None, str | None]:
    with short_temporary_folder(said.append) as folder:
        return folder, os.environ.get("TMPDIR")


def test_a_folder_too_long_for_sockets_is_replaced_and_that_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    long, said = tmp_path / ("x" * 80), []
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(long))
    monkeypatch.setattr(connect, "_OTHER", "/tmp/distmgcd-test")
    assert chosen_folder(said) == ("/tmp/distmgcd-test", "/tmp") and os.environ["TMPDIR"] == str(long)
    Path("/tmp/distmgcd-test").rmdir()
    assert len(said) == 1 and f"{long}/ray is too long a path" in said[0]


def test_a_folder_that_cannot_be_made_is_replaced_and_a_good_one_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    said: list[str] = []
    monkeypatch.setattr(connect, "_BELOW", "")
    monkeypatch.setattr(connect, "_OTHER", str(tmp_path / "other"))
    monkeypatch.setenv("RAY_TMPDIR", "/proc/nowhere")
    assert chosen_folder(said)[0] == str(tmp_path / "other") and "cannot be made" in said[0]
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert chosen_folder(said)[0] is None and len(said) == 1
    monkeypatch.setenv("RAY_TMPDIR", "/proc/nowhere")
    monkeypatch.setattr(connect, "_OTHER", "/proc/nowhere/else")
    with pytest.raises(UserError, match="set RAY_TMPDIR"):
        chosen_folder(said)
