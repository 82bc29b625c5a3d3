"""The only place that imports Ray, and what Ray finds in the environment as it is imported."""

import os
import tempfile
from pathlib import Path

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no telemetry
# Ray says in red, at every start of workers, that one of its own actors may not restart: nothing that a user can mend.
os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "PreemptionWatcher.*has constructor arguments in the object store")
try:
    Path.home()
except RuntimeError:  # a user whom a container does not know; Ray makes up ~/ray_results, which is not used here
    os.environ["HOME"] = tempfile.gettempdir()
