"""From presets, files and changes to a config, and back to YAML."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from types import NoneType
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from distmgcd.config.document import Document, find_mistake, no_section, parse_yaml, plain, read_document
from distmgcd.config.kinds import is_text, suggest
from distmgcd.config.paths import annotation_of, flatten, put, sections, setting_paths, unknown_setting
from distmgcd.config.schema import Config
from distmgcd.core.execution.warn_once import warn_once
from distmgcd.errors import UserError

PRESETS = Path(__file__).parent.parent / "presets"
BASE = "base"  # the key of a file that says what it changes


def preset_names() -> list[str]:
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def load_config(
    source: str | Mapping[str, Any], overrides: Sequence[str] = (), *, settings: Mapping[str, Any] | None = None
) -> Config:
    """A preset's name, a YAML file or settings, with changes to it. Raises UserError.

    settings: {dotted path: value}, which change the source; overrides, "dotted.key=value", change both. A file may
    name a preset or another file as its `base`, and change that.
    """
    found = _read(source, ()) if isinstance(source, str) else _Settings(_nested(source, "The settings"))
    for path, value in (settings or {}).items():
        found.change(path, value)
    for override in overrides:
        found.change(*_parsed(override))
    return make_config(found.nested, lines=found.lines)


def make_config(settings: Mapping[str, Any], *, lines: Mapping[str, str] | None = None) -> Config:
    """Validate nested settings.

    lines: {dotted path: "FILE, line 3"} of settings that are written in a file. Raises UserError for an unknown key,
    a wrong value, or values that do not fit together.
    """
    settings = _without_ahead(settings)
    try:
        return Config.model_validate(settings)
    except ValidationError as error:
        how = "add it to the file, or give {path}=VALUE on the command line"
        mistake = find_mistake(error, Config, settings, add=how)
    path = ".".join(map(str, mistake.place[:2]))
    sentence = unknown_setting(path) if mistake.is_unknown_key else mistake.sentence
    together = isinstance(settings.get(path), dict)  # no one line is wrong, but a section in itself
    raise UserError(f"{lines[path]}: {sentence}" if lines and path in lines and not together else sentence)


def _without_ahead(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Settings of an older version without speed.ahead, which changed no result; a warning where it was on."""
    written = flatten({key: settings[key] for key in ("speed", "speed.ahead") if key in settings})
    if "speed.ahead" not in written:
        return settings
    if written["speed.ahead"] is not False:
        warn_once("speed.ahead is gone: it made no run faster and changed no result, so the run goes on without it.")
    settings = {key: value for key, value in settings.items() if key != "speed.ahead"}
    if isinstance(speed := settings.get("speed"), dict):
        settings["speed"] = {key: value for key, value in speed.items() if key != "ahead"}
    return settings


def to_yaml(config: Config) -> str:
    """The resolved config as YAML that load_config reads back to an equal one."""
    return yaml.safe_dump(plain(config.model_dump()), sort_keys=False, default_flow_style=None, width=100)


def comment_of(source: str) -> list[str]:
    """The comment at the head of a preset or file that load_config reads, line by line, without its #."""
    path = PRESETS / f"{source}.yaml" if source in preset_names() else Path(source)
    head = takewhile(lambda line: line.startswith("#"), path.read_text(errors="replace").splitlines())
    return [line.removeprefix("#").removeprefix(" ") for line in head]


def find_base(base: str, folder: Path) -> str:
    """A preset's name as it is; a file from beside the one that names it, else from here."""
    beside = folder / base
    return str(beside) if base not in preset_names() and beside.is_file() else base


def check_changes(overrides: Sequence[str]) -> None:
    """Raise UserError for a change of what is no setting, or one that cannot be read; its value is not looked at."""
    for override in overrides:
        _parsed(override)


def files_of(source: str) -> dict[str, str | None]:
    """{file: the base it names} of all that a config is read from, in turn; none for a preset. Raises UserError.

    It has been read without a mistake before.
    """
    if source in preset_names():
        return {}
    base = read_document(source).value.get(BASE)
    return {source: base, **(files_of(find_base(base, Path(source).parent)) if base else {})}


@dataclass
class _Settings:
    """Nested settings, and where they are written."""

    nested: dict[str, Any]
    lines: dict[str, str] = field(default_factory=dict)  # {dotted path: "FILE, line 3"}, of files of the user

    def change(self, path: str, value: Any) -> None:
        _put(self.nested, path, value)
        self.lines.pop(path, None)


def _read(source: str, chain: tuple[Path, ...]) -> _Settings:
    """The settings of a preset or file. chain: the files that name this one as their base."""
    path = Path(source)
    if source in preset_names():
        path = PRESETS / f"{source}.yaml"
    elif path.suffix not in (".yaml", ".yml"):
        if source.startswith("pretrained:"):
            raise UserError(
                f"{source} is a trained model, not settings; `distmgcd sample {source}` draws from it, and `distmgcd "
                f"train PRESET --from {source} --name NEW` begins with its weights."
            )
        if (path / "config.yaml").is_file():
            raise UserError(f"{source} is the folder of a run; give {path / 'config.yaml'} for a run with its config.")
        raise UserError(
            f"There is no preset {source!r}{suggest(source, preset_names())}; the presets are "
            f"{', '.join(preset_names())}, and a file must end in .yaml."
        )
    elif not path.is_file():
        if path.stem in preset_names() and not path.exists():
            raise UserError(f"The config file {source} does not exist; {path.stem} without an ending is the preset.")
        raise UserError(
            f"The config file {source} {'is a folder' if path.exists() else 'does not exist'}; give a YAML file or one "
            f"of the presets {', '.join(preset_names())}."
        )
    if path.resolve() in chain:
        names = " -> ".join(file.name for file in (*chain[chain.index(path.resolve()) :], path))
        raise UserError(f"A config file must not be its own base, but {names}; take one `{BASE}:` out.")
    return _on_its_base(read_document(str(path)), chain, is_preset=source in preset_names())


def _on_its_base(document: Document, chain: tuple[Path, ...], *, is_preset: bool) -> _Settings:
    """The settings of a file, which are written as sections or dotted paths, as changes to those of its base."""
    path, written = Path(document.file), document.value
    if not isinstance(written, dict):
        raise UserError(
            f"The config file {path} must hold settings such as 'grids:', but holds "
            f"{'nothing' if written is None else repr(written)[:40]}; see `distmgcd config digits` for a whole one."
        )
    own = _nested({key: value for key, value in written.items() if key != BASE}, document.file)
    lines = {".".join(map(str, place)): f"{path}, line {line}" for place, line in document.lines.items()}
    lines = {} if is_preset else lines
    if BASE not in written:
        return _Settings(own, lines)
    base = written[BASE]
    if not isinstance(base, str):
        raise document.error(
            (BASE,), f"base must be a preset or a config file, but is {base!r}; write `base: digits`, say."
        )
    try:
        found = _read(find_base(base, path.parent), (*chain, path.resolve()))
    except UserError as error:
        raise UserError(f"{path}, base: {error}") from None
    both = {
        key for key in found.nested.keys() & own if isinstance(found.nested[key], dict) and isinstance(own[key], dict)
    }
    merged = {**found.nested, **own, **{key: {**found.nested[key], **own[key]} for key in both}}
    return _Settings(merged, {**found.lines, **lines})


def _nested(written: Mapping[str, Any], name: str) -> dict[str, Any]:
    """{"langevin.num_steps": 3} as {"langevin": {"num_steps": 3}}. Raises UserError for a setting that stands twice."""
    known = set(setting_paths())
    settings = {
        key: dict(v) if isinstance(v, dict) else v for key, v in written.items() if key not in known or "." not in key
    }
    for path in written.keys() - settings.keys():
        section, _, key = path.partition(".")
        if key in (settings.get(section) or {}):
            raise UserError(f"{name}: {path} stands there twice, by itself and in {section}; keep one of them.")
        _put(settings, path, written[path])
    return settings


def _parsed(override: str) -> tuple[str, Any]:
    """(dotted path, value) of "dotted.key=value". Raises UserError."""
    path, equals, text = override.partition("=")
    if not equals:
        raise UserError(
            f"A change must read dotted.key=value, but {override!r} has no '='. Example: langevin.num_steps=30."
        )
    if path not in set(setting_paths()):
        raise UserError(unknown_setting(path))
    return path, _value(path, text)


def _value(path: str, text: str) -> Any:
    """What a change says: YAML, but any text for a setting that takes any, for a path may hold # and quotes."""
    annotation = annotation_of(path)
    if is_text(annotation):
        return None if text == "null" and NoneType in get_args(annotation) else text
    try:
        return parse_yaml(text)
    except (yaml.YAMLError, ValueError):
        raise UserError(f"The value of {path} is not valid YAML: {text!r}. Lists are written [4, 16, 64].") from None


def _put(settings: dict[str, Any], path: str, value: Any) -> None:
    try:
        put(settings, path, value)
    except ValueError as error:
        section = str(error)
        raise UserError(no_section(section, settings[section], list(sections()[section].model_fields))) from None
