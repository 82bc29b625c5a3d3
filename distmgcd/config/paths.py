"""Settings by their dotted paths."""

from collections.abc import Iterator
from typing import Any, get_type_hints

from pydantic import BaseModel

from distmgcd.config.kinds import Section
from distmgcd.config.schema import Config


def setting_paths(model: type[BaseModel] = Config, prefix: str = "") -> Iterator[str]:
    """Every dotted path that a config knows."""
    for name, field in model.model_fields.items():
        if is_section(field.annotation):
            yield from setting_paths(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name


def flatten(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as {dotted path: value}."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat.update(flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return flat


def put(settings: dict[str, Any], path: str, value: Any) -> None:
    """Set a nested setting by its dotted path. Raises ValueError with the section where it is no mapping."""
    *inside, key = path.split(".")
    for section in inside:
        settings = settings.setdefault(section, {})
        if not isinstance(settings, dict):
            raise ValueError(section)
    settings[key] = value


def sections() -> dict[str, type[BaseModel]]:
    return {name: f.annotation for name, f in Config.model_fields.items() if is_section(f.annotation)}


def is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, tuple) else value


def annotation_of(path: str) -> Any:
    """The type of a setting, by its dotted path, with the metadata that bears its rule."""
    section, _, key = path.rpartition(".")
    return get_type_hints(sections()[section] if section else Config, include_extras=True)[key]
