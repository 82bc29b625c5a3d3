"""What the runs of this folder are compared with."""

from pathlib import Path

import pytest
from fault_runs import CHANGES, train_undisturbed


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two workers that nothing befell."""
    return train_undisturbed(tmp_path_factory.mktemp("undisturbed"), 2, *CHANGES)
