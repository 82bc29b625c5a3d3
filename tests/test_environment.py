"""CPUs as a container or taskset leaves them, a home that is not there, and what RAY_ADDRESS may say."""

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from distmgcd import environment
from distmgcd.data.cache_folder import default_cache_dir
from distmgcd.environment import absolute, cpus_of_cgroup, joins_ray, ray_address, threads_asked_for, usable_cpus
from distmgcd.errors import UserError
from distmgcd.workers.collectives import choose_device

V1 = "5:memory:/jobs/a\n4:cpu,cpuacct:/jobs/a\n0::/\n"
V2 = "0::/jobs/a\n"
QUOTAS = {
    "no container": ({}, float("inf")),
    "a container that sees its group at the top": ({"proc/self/cgroup": "0::/\n", "v2/cpu.max": "200000 100000"}, 2.0),
    "its group is called as the host does": ({"proc/self/cgroup": V2, "v2/cpu.max": "250000 100000\n"}, 2.5),
    "a group inside a smaller one": (
        {"proc/self/cgroup": V2, "v2/jobs/a/cpu.max": "400000 100000", "v2/jobs/cpu.max": "150000 100000"},
        1.5,
    ),
    "no limit": ({"proc/self/cgroup": V2, "v2/jobs/a/cpu.max": "max 100000"}, float("inf")),
    "v1": (
        {"proc/self/cgroup": V1, "v1/jobs/cpu.cfs_quota_us": "300000", "v1/jobs/cpu.cfs_period_us": "1000000"},
        0.3,
    ),
    "v1 without a limit": (
        {"proc/self/cgroup": V1, "v1/jobs/a/cpu.cfs_quota_us": "-1", "v1/jobs/a/cpu.cfs_period_us": "100000"},
        float("inf"),
    ),
}


@pytest.mark.parametrize(("files", "expected"), QUOTAS.values(), ids=QUOTAS)
def test_the_quota_of_a_container_is_read(tmp_path: Path, files: dict[str, str], expected: float):
    for name, text in files.items():
        file = tmp_path / name.replace("v1/", "sys/fs/cgroup/cpu,cpuacct/").replace("v2/", "sys/fs/cgroup/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert cpus_of_cgroup(tmp_path) == expected


@pytest.mark.parametrize(("bound_to", "quota", "expected"), [(16, 2.5, 2), (1, 8.0, 1), (3, 1e9, 3), (4, 0.5, 1)])
def test_cpus_are_those_that_this_process_may_use(monkeypatch, bound_to: int, quota: float, expected: int):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(bound_to)), raising=False)
    monkeypatch.setattr(environment, "cpus_of_cgroup", lambda: quota)
    assert usable_cpus() == expected


def test_nobody_else_counts_the_cpus_of_the_machine():
    package = Path(environment.__file__).parent
    found = [file.name for file in package.rglob("*.py") if "cpu_count()" in file.read_text()]
    assert found == ["environment.py"]


@pytest.mark.parametrize(("asked", "expected"), [(None, 2), ("3", 3)])
def test_torch_has_no_more_threads_than_cpus(monkeypatch: pytest.MonkeyPatch, asked: str | None, expected: int):
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS") if asked is None else monkeypatch.setenv("OMP_NUM_THREADS", asked)
    monkeypatch.setattr("distmgcd.workers.collectives.usable_cpus", lambda: 2)
    try:
        torch.set_num_threads(3)
        choose_device(False)
        assert torch.get_num_threads() == expected
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("text", "expected"), [("", None), ("4", 4), ("4,2", 4), ("0", UserError), ("all", UserError)])
def test_threads_are_those_of_omp_num_threads(monkeypatch: pytest.MonkeyPatch, text: str, expected):
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    if expected is UserError:
        with pytest.raises(UserError, match="OMP_NUM_THREADS must be a whole number"):
            threads_asked_for()
    else:
        assert threads_asked_for() == expected


@pytest.mark.parametrize(("address", "expected"), [("", None), ("local", None), ("auto", "auto"), ("h:6379", "h:6379")])
def test_ray_address_names_a_cluster_or_none(monkeypatch: pytest.MonkeyPatch, address: str, expected: str | None):
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False))
    assert ray_address() == expected and joins_ray() is (expected is not None)


def test_a_ray_that_a_notebook_has_started_is_joined(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: True))
    assert joins_ray()


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://127.0.0.1:8265", "distmgcd submit --address http://127.0.0.1:8265 -- train"),
        ("ray://10.0.0.1:10001", "Ray Client"),
        ("10.0.0.1", "HOST:PORT"),
        ("10.0.0.1:", "HOST:PORT"),
        (":6379", "HOST:PORT"),
    ],
)
def test_another_ray_address_is_a_sentence(monkeypatch: pytest.MonkeyPatch, address: str, said: str):
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(UserError, match="unset RAY_ADDRESS") as mistake:
        ray_address()
    assert said in str(mistake.value) and repr(address) in str(mistake.value)


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user of a container, whom the system does not know."""
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("DISTMGCD_CACHE", raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as it does for such a user


def test_without_a_home_a_path_that_needs_one_is_a_sentence(homeless, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UserError, match="~/runs begins with ~, but this user has no home"):
        absolute("~/runs")
    with pytest.raises(UserError, match="set DISTMGCD_CACHE"):
        default_cache_dir()
    monkeypatch.setenv("DISTMGCD_CACHE", "/scratch/cache")
    assert default_cache_dir() == Path("/scratch/cache") and absolute("/data") == Path("/data")


def test_a_current_folder_that_has_been_deleted_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gone").mkdir()
    os.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(UserError, match="current folder, which has been deleted"):
        absolute("runs")
