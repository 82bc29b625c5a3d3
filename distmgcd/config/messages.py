"""What is wrong with a config, in one sentence: the setting, the value, the rule and the way out."""

from collections.abc import Iterator
from typing import Any, get_type_hints

from pydantic import BaseModel, ValidationError

from distmgcd.config.kinds import rule_of
from distmgcd.config.paths import flatten, is_section, plain, sections, setting_paths, suggest_setting
from distmgcd.config.schema import Config


def unknown_keys(settings: dict[str, Any], model: type[BaseModel], prefix: str) -> Iterator[str]:
    for key, value in settings.items():
        field = model.model_fields.get(key)
        if field is None:
            yield f"{prefix}{key}"
        elif is_section(field.annotation) and isinstance(value, dict):
            yield from unknown_keys(value, field.annotation, f"{prefix}{key}.")


def unknown_key_sentence(path: str) -> str:
    section = path if path in sections() else path.rpartition(".")[0]
    known = list(setting_paths(sections()[section], f"{section}.")) if section in sections() else []
    names = f"{section} has {', '.join(known)}" if known else f"the sections are {', '.join(sections())}"
    return f"There is no setting {path!r}{suggest_setting(path)}; {names}."


def no_section_sentence(section: str, value: Any) -> str:
    names = ", ".join(setting_paths(sections()[section], f"{section}."))
    return f"{section} must hold settings, but is {value!r}; it has {names}."


def sentence(error: ValidationError, settings: dict[str, Any]) -> str:
    """The first problem that pydantic found, in our words."""
    first = error.errors()[0]
    if first["type"] == "value_error":
        return first["msg"].removeprefix("Value error, ")
    *section, key = map(str, first["loc"][:2])
    model = sections()[section[0]] if section else Config
    path = ".".join([*section, key])
    if first["type"] == "missing" and len(first["loc"]) <= 2:
        names = ", ".join(setting_paths(sections()[key], f"{key}.")) if key in sections() else path
        return f"{path} is missing; add it to the file, or give {names.split(', ')[0]}=VALUE on the command line."
    value = flatten(settings).get(path, first["input"])
    rule = rule_of(get_type_hints(model, include_extras=True)[key])
    default = model.model_fields[key].get_default()
    way_out = f"its default is {plain(default)}" if not model.model_fields[key].is_required() else _EXAMPLES[path]
    return f"{path} must be {rule}, but is {value!r}; {way_out}."


_EXAMPLES = {
    "data.path": "write data.path=sklearn:digits, say",
    "data.channels": "write data.channels=1 for grey images, 3 for colour",
    "grids.sizes": "write 'grids.sizes=[4,16,64]', say",
}
