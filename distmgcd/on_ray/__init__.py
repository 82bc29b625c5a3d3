"""The only place that imports Ray."""

import os
import tempfile
from pathlib import Path

try:
    Path.home()
except (
    RuntimeError
):  # in a container whose user has no name; Ray looks for ~/ray_results, unused here, as it is imported
    os.environ["HOME"] = tempfile.gettempdir()
