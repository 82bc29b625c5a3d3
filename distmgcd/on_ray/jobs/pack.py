"""What goes to a cluster with a job: the package as it runs here, and the files of the current folder.

Of the current folder go the files that git knows or would add: tracked ones as they are now, and new ones that no
.gitignore names. Left out are hidden files (.env, .ssh, ...), what a .rayignore beside them names (in the syntax of
.gitignore), and everything outside the folder. Outside of git only the files go that the command line names.
"""

import re
import subprocess
import zipfile
from collections.abc import Iterable, Sequence
from importlib.metadata import requires
from pathlib import Path, PurePosixPath
from typing import Any

import distmgcd
from distmgcd.errors import UserError

LIMIT_BYTES = 100 * 2**20  # of all files; Ray keeps the package in the memory of the cluster's head

_PACKAGE = Path(distmgcd.__file__).parent
_PINS = "constraints.txt"
_DATE = (1980, 1, 1, 0, 0, 0)  # of every file, so that the same files make the same package


def files_to_send(folder: Path, named: Sequence[str], *, with_package: bool = True) -> dict[str, Path]:
    """{name on the cluster: file here}, sorted; there the job starts in the folder that holds them.

    named: files that the job's command line names; they go even where git ignores them. Raises UserError if one lies
    outside the folder, and if all of them are too large.
    """
    names = {*_known_to_git(folder), *(name_inside(folder, path) for path in named)}
    files = {name: folder / name for name in names}
    if with_package:
        files = {name: file for name, file in files.items() if PurePosixPath(name).parts[0] != _PACKAGE.name}
        inside = {*(_known_to_git(_PACKAGE) or _all_files(_PACKAGE)), *_sweeps()}
        files |= {f"{_PACKAGE.name}/{name}": _PACKAGE / name for name in inside}
    check_size({name: file.stat().st_size for name, file in files.items()})
    return dict(sorted(files.items()))


def name_inside(folder: Path, path: str) -> str:
    """A file's path as seen from the folder. Raises UserError if it lies outside."""
    try:
        return (folder / path).resolve().relative_to(folder.resolve()).as_posix()
    except ValueError:
        raise UserError(
            f"The file {path} lies outside the current folder, which is what goes to the cluster; run the command in a "
            "folder that holds it."
        ) from None


def check_size(sizes: dict[str, int], limit: int = LIMIT_BYTES) -> None:
    """Raise UserError if files of so many bytes are too many to send."""
    if (total := sum(sizes.values())) <= limit:
        return
    largest = sorted(sizes, key=lambda name: sizes[name], reverse=True)[:3]
    names = ", ".join(f"{name} {sizes[name] / 2**20:.1f} MiB" for name in largest)
    raise UserError(
        f"The current folder has {total / 2**20:.0f} MiB of files to send, more than the {limit / 2**20:.0f} MiB that "
        f"a job may bring (the largest: {names}); name what is not needed in .gitignore or .rayignore, and put data "
        "into storage that the cluster reads."
    )


def write_package(files: dict[str, Path], path: Path) -> int:
    """A zip of these files, the same bytes for the same files; returns its size in bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as package:
        for name, file in files.items():
            entry = zipfile.ZipInfo(name, _DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o755 if file.stat().st_mode & 0o100 else 0o644) << 16
            package.writestr(entry, file.read_bytes())
    return path.stat().st_size


def pip_environment(files: dict[str, Path]) -> dict[str, Any]:
    """The runtime environment of Ray in which every node installs what the package needs, as constraints.txt pins it.

    Ray itself is the cluster's. Adds constraints.txt to the files. Raises UserError where there is none.
    """
    pins = next((path for path in (files.get(_PINS), _PACKAGE.parent / _PINS) if path and path.is_file()), None)
    if pins is None:
        raise UserError(
            f"--dependencies installs the versions that {_PINS} pins, but there is none in the current folder or "
            "beside the package; run it in distmgcd's repository, or use an image that has the dependencies."
        )
    files[_PINS] = pins
    needed = [text for text in requires(_PACKAGE.name) or [] if "extra ==" not in text and not text.startswith("ray")]
    names = [re.split(r"[^\w.-]", text, maxsplit=1)[0] for text in needed]
    # pip puts the variable's value, the job's folder on that node, into the line of its requirements.
    return {"pip": {"packages": [f"-c ${{RAY_RUNTIME_ENV_CREATE_WORKING_DIR}}/{_PINS}", *names], "pip_check": False}}


def _known_to_git(folder: Path) -> set[str]:
    """Files below a folder that git tracks or would add; none where there is no git."""
    wanted = _git(folder, "--cached", "--others", "--exclude-standard")
    if (folder / ".rayignore").is_file():
        wanted -= _git(folder, "--cached", "--others", "--ignored", "--exclude-from=.rayignore")
    return {name for name in wanted if not _is_hidden(name) and _lies_in(folder, folder / name)}


def _git(folder: Path, *options: str) -> set[str]:
    try:
        found = subprocess.run(["git", "-C", str(folder), "ls-files", "-z", *options], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):  # no git here, or no work tree
        return set()
    return set(filter(None, found.stdout.decode(errors="surrogateescape").split("\0")))


def _all_files(folder: Path) -> Iterable[str]:
    """Of an installed package: all but what Python has compiled."""
    found = (file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    return {name for name in found if not _is_hidden(name) and "__pycache__" not in PurePosixPath(name).parts}


def _sweeps() -> Iterable[str]:
    """The sweeps that go with the package: in a checkout they lie behind a link, which git does not follow."""
    return (file.relative_to(_PACKAGE).as_posix() for file in (_PACKAGE / "presets" / "sweeps").glob("*.yaml"))


def _lies_in(folder: Path, file: Path) -> bool:
    """Whether it is a file, and no link to one elsewhere."""
    return file.is_file() and file.resolve().is_relative_to(folder.resolve())


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in PurePosixPath(name).parts)
