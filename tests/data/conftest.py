"""Where tests of images find the real ones, keep decoded ones, and import small made ones from."""

from pathlib import Path

import pytest
from places import SHARED

DATA = SHARED / "data"


@pytest.fixture
def shared_file():
    """Path of a real data set, or a skip with the reason."""

    def find(name: str) -> str:
        if not (DATA / name).exists():
            pytest.skip(f"real images are absent: {DATA / name}")
        return str(DATA / name)

    return find


@pytest.fixture
def cache(tmp_path) -> Path:
    return tmp_path / "cache"
