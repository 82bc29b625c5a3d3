"""The manifests, and the command lines in them."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from places import ROOT

CLUSTER = ROOT / "cluster"
OVERLAYS = sorted(folder for folder in (CLUSTER / "kuberay" / "overlays").iterdir() if folder.is_dir())
LAUNCHER_FILES = sorted((CLUSTER / "launcher").glob("*.yaml"))
TEXT_FILES = sorted(file for file in CLUSTER.rglob("*") if file.is_file())

# distmgcd train ..., run.sbatch train ..., distmgcd submit --address URL -- train ..., up to the end of line or code.
_COMMAND = re.compile(
    r"(?:distmgcd|run\.sbatch|(?P<submit>submit\b[^`\n]*?) --|COMMAND:) (?P<command>(?:train|tune) [^`'\"\n|]+)"
)


def commands_in(file: Path) -> list[list[str]]:
    """The arguments of every `distmgcd train` and `distmgcd tune` that a manifest runs or tells to run."""
    if file.name == "job.yaml":
        return [shlex.split(load(file)["spec"]["entrypoint"])[1:]]
    return [shlex.split(found["command"]) for found in _COMMAND.finditer(file.read_text())]


def submissions_in(file: Path) -> list[list[str]]:
    """The arguments of every `distmgcd submit`, its own and those after --."""
    found = [match for match in _COMMAND.finditer(file.read_text()) if match["submit"]]
    return [[*shlex.split(match["submit"])[1:], "--", *shlex.split(match["command"])] for match in found]


def load(file: Path) -> Any:
    return yaml.safe_load(file.read_text())


def scalars(tree: Any, path: tuple = ()) -> Iterator[tuple[tuple, Any]]:
    """(path of keys and indices, value) of everything in a document that is no mapping and no list."""
    if isinstance(tree, dict | list):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from scalars(value, (*path, key))
    else:
        yield path, tree
