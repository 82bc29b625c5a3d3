"""Where tests of images find the real ones, keep decoded ones, and import small made ones from."""

import sys
from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
sys.path.insert(0, str(Path(__file__).parent))  # for small_images, under every import mode of pytest


@pytest.fixture
def shared_file():
    """Path of a real data set, or a skip with the reason."""

    def find(name: str) -> str:
        if not (SHARED / name).exists():
            pytest.skip(f"real images are absent: {SHARED / name}")
        return str(SHARED / name)

    return find


@pytest.fixture
def cache(tmp_path) -> Path:
    return tmp_path / "cache"
