"""What a setting means and takes, for `distmgcd config --explain`: all of it is read off the schema."""

import textwrap
from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import BaseModel

from distmgcd.config.document import plain
from distmgcd.config.kinds import rule_of, type_of
from distmgcd.config.paths import annotation_of, sections, setting_paths, unknown_setting
from distmgcd.config.schema import Config
from distmgcd.errors import UserError

_WIDTH, _MARGIN = 80, 12


def explain(path: str, config: Config | None = None) -> str:
    """Meaning, type, rule and default of a setting, or of every setting of a section. Raises UserError.

    config: shows the value that the setting has there, too.
    """
    if path in sections():
        model = sections()[path]
        paths = setting_paths(model, f"{path}.")
        return "\n\n".join([_wrapped("", f"{path}: {meaning_of(model)}"), *(_block(key, config) for key in paths)])
    if path not in set(setting_paths()):
        raise UserError(unknown_setting(path))
    return _block(path, config)


def meaning_of(model: type[BaseModel], key: str | None = None) -> str:
    """Of a section, or of a setting in it: the text that stands below it in the schema."""
    text = model.__doc__ if key is None else model.model_fields[key].description
    return " ".join((text or "").split())


def _block(path: str, config: Config | None) -> str:
    return "\n".join([path, *(_wrapped(title, text) for title, text in _lines(path, config))])


def _lines(path: str, config: Config | None) -> Iterator[tuple[str, str]]:
    section, _, key = path.rpartition(".")
    model = sections()[section] if section else Config
    field, annotation = model.model_fields[key], annotation_of(path)
    yield "meaning", meaning_of(model, key)
    yield "type", type_of(annotation)
    yield "rule", rule_of(annotation)
    yield "default", "none, it must be given" if field.is_required() else _shown(field.get_default())
    if config is not None:
        yield "here", _shown(getattr(getattr(config, section) if section else config, key))


def _shown(value: Any) -> str:
    """As one writes it in YAML."""
    return yaml.safe_dump(plain(value), default_flow_style=True, width=10**9).removesuffix("...\n").strip()


def _wrapped(title: str, text: str) -> str:
    first, others = (f"  {title:<{_MARGIN - 2}}", " " * _MARGIN) if title else ("", "")
    return textwrap.fill(text, _WIDTH, initial_indent=first, subsequent_indent=others, break_long_words=False)
