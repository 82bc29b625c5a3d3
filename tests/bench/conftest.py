"""One thread, as for the other tests of arithmetic; and clocks that take a moment, not seconds."""

import pytest
from tiny_runs import tiny_config

from distmgcd.bench import machine, timing
from distmgcd.config import to_yaml


@pytest.fixture(autouse=True)
def short_rounds(monkeypatch):
    monkeypatch.setattr(timing, "SECONDS_EACH", 0.005)
    monkeypatch.setattr(timing, "NUM_ROUNDS", 3)
    monkeypatch.setattr(machine, "_MATRIX_SIZES", (256,))


@pytest.fixture
def tiny(tmp_path):
    """The tiny config as a file, for the command."""
    path = tmp_path / "tiny.yaml"
    path.write_text(to_yaml(tiny_config()))
    return path
