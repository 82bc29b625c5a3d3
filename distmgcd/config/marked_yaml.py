"""YAML whose values know their lines, so that a mistake in a file is told with its place."""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from distmgcd.errors import UserError

Place = tuple[Hashable, ...]  # keys and list positions from the top


@dataclass(frozen=True)
class Marked:
    file: str
    value: Any
    lines: dict[Place, int]  # from 1

    def error(self, place: Place, sentence: object) -> UserError:
        """The sentence with file and line before it; the line of what holds the place if it has none of its own."""
        while place and place not in self.lines:
            place = place[:-1]
        return UserError(f"{self.file}, line {self.lines.get(place, 1)}: {sentence}")


def read_marked(file: str) -> Marked:
    """Raises UserError if it cannot be read, is not YAML, or has a key twice."""
    try:
        text = Path(file).read_text()
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            value = loader.construct_document(node) if node else None
        finally:
            loader.dispose()
    except OSError as error:
        raise UserError(f"The file {file} cannot be read ({error.strerror or error}); check its path.") from None
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"The file {file} is not valid YAML: {' '.join(str(error).split())}.") from None
    marked = Marked(file, value, {})
    for place, line in _places(node, ()) if node else ():
        if place in marked.lines:
            raise UserError(
                f"{file}, line {line}: {place[-1]!r} stands here for the second time (first in line "
                f"{marked.lines[place]}); keep one of them."
            )
        marked.lines[place] = line
    return marked


def _places(node: yaml.Node, place: Place) -> Iterator[tuple[Place, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inside = (*place, key.value)
            yield inside, key.start_mark.line + 1
            yield from _places(value, inside)
    elif isinstance(node, yaml.SequenceNode):
        for position, item in enumerate(node.value):
            yield (*place, position), item.start_mark.line + 1
            yield from _places(item, (*place, position))
