"""Where the repository, the real images and the schemas are."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
SHARED = ROOT.parent / "shared"  # absent outside the project's own machines: tests that need it skip with a reason
