"""A comparison of seconds."""

import sys
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))  # for small_plan, under every import mode of pytest

from small_plan import PLAN  # noqa: E402


@pytest.fixture
def written(tmp_path: Path):
    """Write a plan, changed at top-level keys, to a file; None leaves a key out."""

    def write(**changes: object) -> str:
        path = tmp_path / "plan.yaml"
        plan = {key: value for key, value in {**PLAN, **changes}.items() if value is not None}
        path.write_text(yaml.safe_dump(plan, sort_keys=False))
        return str(path)

    return write
