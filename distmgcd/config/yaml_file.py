"""Reading the YAML of a config file."""

import re
from pathlib import Path
from typing import Any

import yaml

from distmgcd.errors import UserError

_OLD_NUMBER = re.compile(r"[-+]?0[0-7_]+|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")


class _Loader(yaml.SafeLoader):
    """Refuses what YAML would take for something else without a word.

    A key that stands twice in a mapping: the first is dropped. 010 and 1:30: numbers to the base 8 and 60, 8 and 90.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if key.value in lines and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.YAMLError(f"{key.value!r} stands in line {lines[key.value]} and in line {line}; keep one")
            lines[key.value] = line
        return super().construct_mapping(node, deep)

    def construct_number(self, node: yaml.ScalarNode) -> int | float | str:
        if _OLD_NUMBER.fullmatch(node.value):
            return node.value  # text, of which the setting says that it is no number, or which it takes as it is
        is_int = node.tag == "tag:yaml.org,2002:int"
        return self.construct_yaml_int(node) if is_int else self.construct_yaml_float(node)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_number)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_number)


def parse_yaml(text: str) -> Any:
    """Raises yaml.YAMLError, and ValueError for a date that is none."""
    return yaml.load(text, _Loader)


def read_yaml(file: str) -> dict[str, Any]:
    """What a config file holds. Raises UserError."""
    try:
        settings = parse_yaml(Path(file).read_text())
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
