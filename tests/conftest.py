"""One thread, a cache and a telemetry setting of the tests' own; for the processes that tests start, too."""

import os
import sys

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: two threads of many processes fight over two cores
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _cache_of_this_session(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["DISTMGCD_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run `distmgcd ARGUMENTS` here, where Ray cannot be imported: (exit status, standard output, standard error)."""
    from distmgcd.cli import main

    for name in ("ray", "ray.train"):  # the latter is found without the former once it is loaded
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "distmgcd.on_ray.train.driver", raising=False)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["distmgcd", *map(str, arguments)])
        status = 0
        try:
            main()
        except SystemExit as end:
            status = end.code or 0
        return status, *capsys.readouterr()

    return run
