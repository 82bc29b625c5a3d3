"""Every setting of a run: frozen, validated, strict about keys, changed by dotted paths.

A run is a function of this config and of nothing else. `load_config("digits", ["langevin.num_steps=30"])`
reads a preset or a YAML file and applies the changes; every mistake is a UserError of one sentence that
names the setting, the value, the rule and the way out.
"""

from distmgcd.config.network import PAPER_LAYERS
from distmgcd.config.paths import flatten, setting_paths, suggest_setting
from distmgcd.config.reading import (
    check_changes,
    comment_of,
    files_of,
    find_base,
    load_config,
    make_config,
    preset_names,
    to_yaml,
)
from distmgcd.config.schema import Config
from distmgcd.config.sections import Checkpointing, Watch

__all__ = [
    "PAPER_LAYERS",
    "Checkpointing",
    "Config",
    "Watch",
    "check_changes",
    "comment_of",
    "files_of",
    "find_base",
    "flatten",
    "load_config",
    "make_config",
    "preset_names",
    "setting_paths",
    "suggest_setting",
    "to_yaml",
]
