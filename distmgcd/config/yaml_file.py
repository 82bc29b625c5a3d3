"""Reading the YAML of a config file."""

from pathlib import Path
from typing import Any

import yaml

from distmgcd.errors import UserError


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice in a mapping, of which YAML would drop the first without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if key.value in lines and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.YAMLError(f"{key.value!r} stands in line {lines[key.value]} and in line {line}; keep one")
            lines[key.value] = line
        return super().construct_mapping(node, deep)


def read_yaml(file: str) -> dict[str, Any]:
    """What a config file holds. Raises UserError."""
    try:
        settings = yaml.load(Path(file).read_text(), _Loader)
    except OSError as error:
        raise UserError(f"The config file {file} cannot be read ({error.strerror}); check its permissions.") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that is none, or bytes that are no text
        raise UserError(f"The config file {file} is not valid YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(settings, dict):
        raise UserError(
            f"The config file {file} must hold settings such as 'grids:', but holds "
            f"{'nothing' if settings is None else repr(settings)[:40]}; see `distmgcd config digits` for a whole one."
        )
    return settings
