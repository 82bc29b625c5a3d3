"""How every file that a user writes (config, sweep, plan) is read and validated: YAML with lines, a pydantic model.

A mistake is a UserError of one sentence: file and line, the setting, its value, the rule, and the way out.
"""

import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from distmgcd.config.kinds import members_of, rule_of, suggest
from distmgcd.errors import UserError

Place = tuple[Hashable, ...]  # keys and list positions from the top
Model = TypeVar("Model", bound=BaseModel)

_FILES = {"tune": "sweep", "compare": "comparison"}
_OLD_NUMBER = re.compile(r"[-+]?0[0-7_]+|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")


class Strict(BaseModel):
    """A part of a file: immutable, and unknown keys are a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class Document:
    """What a file holds."""

    file: str
    value: Any
    lines: dict[Place, int]  # from 1

    def error(self, place: Place, sentence: object) -> UserError:
        """The sentence with file and line before it; the line of what holds the place if it has none of its own."""
        return UserError(f"{self.file}, line {self.lines.get(self._written(place), 1)}: {sentence}")

    def validated(self, model: type[Model]) -> Model:
        """What the file holds, as a model. Raises UserError."""
        try:
            return model.model_validate(self.value)
        except ValidationError as error:
            mistake = find_mistake(error, model, self.value, written=self._written)
        raise self.error(mistake.place, mistake.sentence)

    def _written(self, place: Place) -> Place:
        """The place, or else the innermost one around it that stands in the file."""
        while place and place not in self.lines:
            place = place[:-1]
        return place


def find_file(source: str, folder: Path, *, command: str) -> str:
    """The path of a file, which is given by its path, or by its name if it is one of the package in this folder.

    command: of distmgcd, which takes such a file. Raises UserError.
    """
    names = sorted(path.stem for path in folder.glob("*.yaml"))
    path = folder / f"{source}.yaml" if source in names else Path(source)
    if path.suffix not in (".yaml", ".yml"):
        raise UserError(
            f"There is no {_FILES[command]} {source!r}{suggest(source, names)}; there are {', '.join(names)}, and a "
            "file must end in .yaml."
        )
    if not path.exists() and path.stem in names:
        raise UserError(
            f"The file {source} does not exist; `distmgcd {command} {path.stem}` runs the one that we have."
        )
    return str(path) if source in names else source


def read_document(file: str) -> Document:
    """Raises UserError if the file cannot be read, is not YAML, or has a key twice."""
    try:
        text = Path(file).read_text()
        node = yaml.compose(text, _Loader)
        lines = dict(_lines(node, (), set())) if node else {}
        return Document(file, parse_yaml(text), lines)
    except OSError as error:
        raise UserError(
            f"The file {file} cannot be read ({error.strerror or error}); check its path and its permissions."
        ) from None
    except _KeyTwice as error:
        raise UserError(f"{file}, line {error.line}: {error}.") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that is none, or bytes that are no text
        raise UserError(f"The file {file} is not valid YAML: {' '.join(str(error).split())}.") from None


def parse_yaml(text: str) -> Any:
    """Raises yaml.YAMLError, and ValueError for a date that is none."""
    return yaml.load(text, _Loader)


class _KeyTwice(yaml.YAMLError):
    def __init__(self, key: object, first: int, line: int):
        super().__init__(f"{key!r} stands here for the second time (first in line {first}); keep one of them")
        self.line = line


class _Loader(yaml.SafeLoader):
    """Refuses what YAML would silently take for something else.

    A key that stands twice in a mapping: the first is dropped. 010 and 1:30: numbers to the base 8 and 60, 8 and 90.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if key.value in lines and key.tag != "tag:yaml.org,2002:merge":
                raise _KeyTwice(key.value, lines[key.value], line)
            lines[key.value] = line
        return super().construct_mapping(node, deep)

    def construct_number(self, node: yaml.ScalarNode) -> int | float | str:
        if _OLD_NUMBER.fullmatch(node.value):
            return node.value  # text, of which the setting says that it is no number, or which it takes as it is
        is_int = node.tag == "tag:yaml.org,2002:int"
        return self.construct_yaml_int(node) if is_int else self.construct_yaml_float(node)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_number)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_number)


def _lines(node: yaml.Node, place: Place, seen: set[int]) -> Iterator[tuple[Place, int]]:
    """The line of every key and list item. What an alias repeats counts where it was written first."""
    if id(node) in seen:
        return
    seen.add(id(node))
    pairs: Iterable[tuple[Any, yaml.Node, yaml.Node]] = ()
    if isinstance(node, yaml.MappingNode):
        pairs = ((key.value, key, value) for key, value in node.value)
    elif isinstance(node, yaml.SequenceNode):
        pairs = ((position, item, item) for position, item in enumerate(node.value))
    for key, marked, value in pairs:
        yield (*place, key), marked.start_mark.line + 1
        yield from _lines(value, (*place, key), seen)


_FIRST = {"extra_forbidden": 0, "invalid_key": 1, "model_type": 2}  # for a mistake of these explains others


@dataclass(frozen=True)
class Mistake:
    place: Place  # of the setting, or inside it
    sentence: str
    is_unknown_key: bool = False


def find_mistake(
    error: ValidationError,
    model: type[BaseModel],
    value: Any,
    *,
    add: str = "add it",
    written: Callable[[Place], Place] = lambda place: place,
) -> Mistake:
    """The first mistake that pydantic found in a value; unknown keys, then sections that are none, before all others.

    add: what to do about a missing setting, with {path} for it. written: the part of a place that stands in the file.
    """
    first = min(error.errors(), key=lambda found: _FIRST.get(found["type"], len(_FIRST)))
    place, annotation, field = _look_up(model, first["loc"])
    path = ".".join(map(str, place))
    if first["type"] == "value_error":
        return Mistake(first["loc"], first["msg"].removeprefix("Value error, "))
    if annotation is None:
        known = list((_model_in(_look_up(model, place[:-1])[1]) or model).model_fields)
        return Mistake(place, unknown_key(path, known), is_unknown_key=True)
    if first["type"] == "missing" and len(place) == len(first["loc"]):
        return Mistake(place, f"{path} is missing; {add.format(path=_first_needed(path, annotation))}.")
    place = written(place)
    found = _value_at(value, place, first["input"])
    return Mistake(first["loc"], _wrong_value(".".join(map(str, place)), found, annotation, field))


def _first_needed(path: str, annotation: Any) -> str:
    """The path itself, or for a section that of the first setting that it must have."""
    section = _model_in(annotation)
    needed = [name for name, field in section.model_fields.items() if field.is_required()][:1] if section else []
    return ".".join([path, *needed])


def _wrong_value(path: str, found: Any, annotation: Any, field: FieldInfo | None) -> str:
    """The sentence on a value of the wrong kind. path: "" for the whole file."""
    if section := _model_in(annotation):
        return no_section(path, found, list(section.model_fields))
    way_out = f"; its default is {plain(field.get_default())}" if field and not field.is_required() else ""
    way_out = f"; write {field.examples[0]}" if field and field.examples else way_out
    verb = "hold" if get_origin(_bare(annotation)) is dict else "be"
    return f"{path} must {verb} {rule_of(annotation)}, but is {found!r:.200}{way_out}."


def unknown_key(path: str, known: Sequence[str]) -> str:
    """The sentence on a setting that there is not. known: the keys beside it."""
    section, _, key = path.rpartition(".")
    return f"There is no setting {path!r}{suggest(key, known)}; {section or 'a file'} has {', '.join(known)}."


def no_section(path: str, value: Any, keys: Sequence[str]) -> str:
    """The sentence on a value where settings are wanted."""
    names = ", ".join(f"{path}.{key}" if path else key for key in keys)
    return f"{path or 'A file'} must hold settings, but is {value!r:.60}; it has {names}."


def plain(value: Any) -> Any:
    """The value as YAML and JSON have it: lists for tuples, mappings for models."""
    if isinstance(value, BaseModel):
        value = value.model_dump()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def _look_up(model: type[BaseModel], loc: Place) -> tuple[Place, Any, FieldInfo | None]:
    """(place, annotation, field) of the setting that a place of pydantic is in; the annotation is None if no such."""
    annotation, field, place = model, None, ()
    for key in loc:
        if section := _model_in(annotation):
            if key not in section.model_fields:
                return (*place, key), None, None
            field = section.model_fields[str(key)]
            annotation = get_type_hints(section, include_extras=True)[str(key)]
        elif get_origin(_bare(annotation)) in (dict, list) and _model_in(items := get_args(_bare(annotation))[-1]):
            annotation, field = items, None
        else:
            break
        place = (*place, key)
    return place, annotation, field


def _bare(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that an annotation is, or that it is one of with null."""
    members = map(_bare, members_of(_bare(annotation)))
    return next((each for each in members if isinstance(each, type) and issubclass(each, BaseModel)), None)


def _value_at(value: Any, place: Place, default: Any) -> Any:
    for key in place:
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            return default
    return value
