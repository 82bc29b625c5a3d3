"""Models that come with the package: distmgcd/pretrained/NAME, each an exported run (export/export_run.py), read only.

Everything that takes the folder of a run takes `pretrained:NAME`; runs/store.py is the one place that looks it up here.
"""

from pathlib import Path

from distmgcd.config.kinds import suggest
from distmgcd.errors import UserError

PREFIX = "pretrained:"
FOLDER = Path(__file__).parent.parent / "pretrained"


def names() -> list[str]:
    return sorted(path.parent.name for path in FOLDER.glob("*/config.yaml"))


def is_pretrained(location: str) -> bool:
    return location.startswith(PREFIX)


def folder_of(location: str) -> str:
    """The local folder of `pretrained:NAME`. Raises UserError for a name that there is not."""
    name = location.removeprefix(PREFIX).rstrip("/")
    if name in names():
        return str(FOLDER / name)
    known = ", ".join(names()) or "none, for this copy of distmgcd brings no models"
    raise UserError(f"There is no pretrained model {name!r}{suggest(name, names())}; those there are: {known}.")
