"""From presets, files and changes to a config, and back to YAML."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from distmgcd.config.mistakes import no_section_sentence, sentence, unknown_key_sentence, unknown_keys
from distmgcd.config.paths import plain, sections, setting_paths
from distmgcd.config.schema import Config
from distmgcd.config.words import suggest
from distmgcd.errors import UserError

PRESETS = Path(__file__).parent.parent / "presets"


def preset_names() -> list[str]:
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def load_config(source: str, overrides: Sequence[str] = ()) -> Config:
    """A preset's name or a YAML file, with "dotted.key=value" changes. Raises UserError."""
    settings = _read(source)
    for override in overrides:
        _apply(settings, override)
    return make_config(settings)


def make_config(settings: dict[str, Any]) -> Config:
    """Validate nested settings.

    Raises UserError for an unknown key, a wrong value, or values that do not fit together.
    """
    if not_sections := [name for name in sections() if not isinstance(settings.get(name, {}), dict)]:
        raise UserError(no_section_sentence(not_sections[0], settings[not_sections[0]]))
    for path in unknown_keys(settings, Config, ""):
        raise UserError(unknown_key_sentence(path))
    try:
        return Config(**settings)
    except ValidationError as error:
        raise UserError(sentence(error, settings)) from None


def to_yaml(config: Config) -> str:
    """The resolved config as YAML that load_config reads back to an equal one."""
    return yaml.safe_dump(plain(config.model_dump()), sort_keys=False, default_flow_style=None, width=100)


def _read(source: str) -> dict[str, Any]:
    path = Path(source)
    if source in preset_names():
        path = PRESETS / f"{source}.yaml"
    elif path.suffix not in (".yaml", ".yml"):
        raise UserError(
            f"There is no preset {source!r}{suggest(source, preset_names())}; the presets are "
            f"{', '.join(preset_names())}, and a file must end in .yaml."
        )
    elif not path.is_file():
        raise UserError(
            f"The config file {source} does not exist; give a YAML file or one of the presets "
            f"{', '.join(preset_names())}."
        )
    try:
        settings = yaml.safe_load(path.read_text())
    except OSError as error:
        raise UserError(f"The config file {source} cannot be read ({error.strerror}); check its permissions.") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that is none, or bytes that are no text
        raise UserError(f"The config file {source} is not valid YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(settings, dict):
        raise UserError(
            f"The config file {source} must hold settings such as 'grids:', but holds "
            f"{'nothing' if settings is None else repr(settings)[:40]}; see `distmgcd config digits` for a whole one."
        )
    return settings


def _apply(settings: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    if not equals:
        raise UserError(
            f"A change must read dotted.key=value, but {override!r} has no '='. Example: langevin.num_steps=30."
        )
    if path not in set(setting_paths()):
        raise UserError(unknown_key_sentence(path))
    *sections, key = path.split(".")
    for section in sections:
        settings = settings.setdefault(section, {})
        if not isinstance(settings, dict):
            raise UserError(no_section_sentence(section, settings))
    try:
        settings[key] = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        raise UserError(f"The value of {path} is not valid YAML: {text!r}. Lists are written [4, 16, 64].") from None
