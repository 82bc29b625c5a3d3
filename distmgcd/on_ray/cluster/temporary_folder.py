"""Where a Ray of our own keeps its sockets: their paths must be short, and their folder must be ours to write."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ray._common.utils import get_default_ray_temp_dir

from distmgcd.errors import UserError

_LONGEST_SOCKET = 107  # bytes of a path that Linux takes for a socket
_BELOW = "/session_2000-01-01_00-00-00_000000_9999999/sockets/plasma_store"
_OTHER = "/tmp/ray"


@contextmanager
def short_temporary_folder(say: Callable[[str], None]) -> Iterator[str | None]:
    """Inside, Ray can be started: with the folder that is given, None where its own choice is good (TMPDIR, /tmp).

    Another folder than its own is said. TMPDIR changes meanwhile, too: the processes of Ray open sockets there.
    Raises UserError if no folder does.
    """
    if (folder := _other_folder(say)) is None:
        yield None
        return
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(Path(folder).parent)
    try:
        yield folder
    finally:
        os.environ.pop("TMPDIR")
        if before is not None:
            os.environ["TMPDIR"] = before


def _other_folder(say: Callable[[str], None]) -> str | None:
    usual = get_default_ray_temp_dir()
    if (why := _unfit(usual)) is None:
        return None
    for other in (_OTHER, f"{_OTHER}-{os.getuid()}"):
        if other != usual and _unfit(other) is None:
            say(f"Ray keeps its sockets and logs in {other}, for {usual} {why}.")
            return other
    raise UserError(
        f"Ray cannot keep its sockets in {usual}, which {why}, nor in {_OTHER}; set RAY_TMPDIR to a folder with a "
        "short path that you can write."
    )


def _unfit(folder: str) -> str | None:
    """Why Ray cannot use a folder."""
    length = len(os.fsencode(os.path.abspath(folder) + _BELOW))
    if length > _LONGEST_SOCKET:
        return f"is too long a path for them by {length - _LONGEST_SOCKET} bytes"
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return f"cannot be made ({error.strerror or error})"
    return None if os.access(folder, os.W_OK | os.X_OK) else "cannot be written"
