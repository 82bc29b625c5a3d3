"""The command line that trains a run of a given config: the nearest preset, and what is changed of it."""

import shlex
from typing import Any

import yaml

from distmgcd.config import Config, flatten, load_config, preset_names
from distmgcd.config.document import plain


def command_of(config: Config, *, num_workers: int = 1) -> str:
    """ "distmgcd train digits learning.num_updates=2000 --workers 1". load_config takes its settings to this config."""
    wanted = flatten(plain(config.model_dump()))
    changes = {name: _changes(flatten(plain(load_config(name).model_dump())), wanted) for name in preset_names()}
    nearest = min(changes, key=lambda name: len(changes[name]))
    return shlex.join(["distmgcd", "train", nearest, *changes[nearest], "--workers", str(num_workers)])


def _changes(before: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    return [f"{key}={_text(value)}" for key, value in wanted.items() if value != before.get(key)]


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("...\n").strip()
