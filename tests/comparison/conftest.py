"""A comparison of seconds."""

from pathlib import Path

import pytest
import yaml
from small_plan import PLAN


@pytest.fixture
def written(tmp_path: Path):
    """Write a plan, changed at top-level keys, to a file; None leaves a key out."""

    def write(**changes: object) -> str:
        path = tmp_path / "plan.yaml"
        plan = {key: value for key, value in {**PLAN, **changes}.items() if value is not None}
        path.write_text(yaml.safe_dump(plan, sort_keys=False))
        return str(path)

    return write
