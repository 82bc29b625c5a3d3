"""The card of an exported model: what it is, what it was trained on and how, and what it measures, in Markdown.

Its first line says it all in short: `distmgcd pretrained` lists it, and `distmgcd sample` prints it.
It holds the command line that trains such a run: the nearest preset and its changes.
"""

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from distmgcd.config import Config, flatten, load_config, preset_names
from distmgcd.config.cost import sample_cost, update_cost
from distmgcd.config.document import plain
from distmgcd.report.evaluation_tables import rows_of
from distmgcd.runs.checkpoint import Progress
from distmgcd.runs.identity import DataRecord


@dataclass(frozen=True, kw_only=True)
class Facts:
    """All that a card says. No text in it holds a path of the machine that the model was trained on."""

    name: str
    config: Config
    progress: Progress
    state: dict[str, Any]  # of the checkpoint: versions, and how chains were executed
    weights_sha256: str  # of the file of the averaged weights in fp32
    num_weights: int
    data: DataRecord | None  # None: of a run that is older than this record
    data_is_public: bool
    origin: dict[str, Any] | None  # of a run that started from another one's weights
    result: dict[str, Any] | None  # measured at the end of training; None: not at this checkpoint
    evaluations: list[dict[str, Any]]  # by `distmgcd evaluate`, that of most samples first


def card_of(facts: Facts) -> str:
    parts = (_title(facts), _about(facts), *_training(facts), *_measured(facts), *_weights(facts))
    return "\n".join(parts) + "\n"


def _title(facts: Facts) -> str:
    config, size = facts.config, facts.config.image_size
    colour = {1: "grey", 3: "colour"}.get(config.data.channels, f"{config.data.channels}-channel")
    learned = f"learned from {config.data.path} in {facts.progress.update:,} updates"
    return f"# {facts.name}: {size}x{size} {colour} pictures, {learned}; {_in_short(facts)}\n"


def _in_short(facts: Facts) -> str:
    """FD where it was measured, else SWD, beside the data's own."""
    for record in facts.evaluations:
        if fd := record["results"].get("fd"):
            return f"{fd['name']} {fd['samples']:,.0f} (data {fd['data']:,.0f}, {record['identity']['num']:,} samples)"
    if fd := (facts.result or {}).get("fd"):
        name, value = next(iter(fd["samples"].items()))
        return f"{name} {value:,.0f} (data {fd['data'][name]:,.0f})"
    if swd := (facts.result or {}).get("swd"):
        samples, data = ("/".join(f"{1000 * value:.1f}" for value in swd[who].values()) for who in ("samples", "data"))
        return f"1000 x SWD {samples} (data {data})"
    return "not measured"


def _about(facts: Facts) -> str:
    sizes = "-".join(map(str, (1, *facts.config.grids.sizes)))
    return (
        "A multi-grid energy-based model, exported by `distmgcd export`. This folder is given wherever a run is: "
        f"`distmgcd sample FOLDER`, `distmgcd.load(FOLDER)`.\n\nIts chains climb {sizes} by "
        f"{list(facts.config.per_grid('langevin.num_steps'))} Langevin steps; a sample takes "
        f"{sample_cost(facts.config) / 1e6:,.0f} million multiply-adds. config.yaml has every setting.\n"
    )


def _training(facts: Facts) -> Iterator[str]:
    config, progress = facts.config, facts.progress
    yield "## Data\n"
    yield f"- {config.data.path}, learned from split {config.data.split!r}, held out: {_held_out(config)}"
    if facts.data:
        for record, name in ((facts.data["images"], "to learn from"), (facts.data["held_out"], "held out")):
            yield f"- {record['num']:,} images {name}, SHA-256 of their pixels `{record['content']}`"
    if not facts.data_is_public:
        yield "- they have no public address here: what is measured against them needs `--data PATH`"
    seen = progress.update * config.learning.global_batch_size
    epochs = f", {seen / facts.data['images']['num']:,.1f} times each" if facts.data else ""
    yield "\n## Training\n"
    yield f"- `{command_of(config, num_workers=facts.state.get('speed', {}).get('workers', 1))}`"
    if facts.origin:
        yield f"- started from the weights of {facts.origin['run']} at {facts.origin['checkpoint']}"
    yield (
        f"- {progress.update:,} updates (of {config.learning.num_updates:,}) of {config.learning.global_batch_size} "
        f"images: {seen:,} images seen{epochs}; {progress.update * update_cost(config):.3g} multiply-adds"
    )
    yield f"- {_duration(progress.seconds)} of updates{_machine(facts.state)}"
    if progress.num_retries:
        yield f"- diverged {progress.num_retries} times and went back to a checkpoint each time"
    versions = ", ".join(f"{name} {version}" for name, version in facts.state.get("versions", {}).items())
    yield f"- {versions}\n"


def _held_out(config: Config) -> str:
    fraction = config.data.validation
    return f"{100 * fraction:g} % of it" if fraction else f"split {config.data.held_out!r}"


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds / 60:.1f} minutes"


def _machine(state: dict[str, Any]) -> str:
    speed = state.get("speed")
    if not speed:
        return ""
    workers, threads = speed.get("workers", 1), speed.get("threads")
    many = f"{workers} worker{'s' if workers > 1 else ''}"
    each = f" of {threads} thread{'s' if threads > 1 else ''}" if threads and speed.get("device") == "cpu" else ""
    chains = f"chains in {speed.get('precision')}, {speed.get('execution')} execution"
    return f", the last of them on {speed.get('device')}: {many}{each}, {chains}"


def _measured(facts: Facts) -> Iterator[str]:
    yield "## Measured\n"
    if not (facts.result or facts.evaluations):
        yield "Nothing was measured at this checkpoint.\n"
        return
    yield "By the weights before they were rounded to half precision; smaller distances are better."
    if facts.result:
        yield "\nAt the end of training:\n"
        yield from _table(_rows_of_result(facts.result))
        yield from _protocol(facts.result["protocol"])
    for record in facts.evaluations:
        identity = record["identity"]
        yield f"\nBy `distmgcd evaluate --num {identity['num']} --seed {identity['seed']}`:\n"
        yield from _table(rows_of(record["results"]))
        yield from _protocol({key: identity[key] for key in ("samples", "data", "held_out")})
        yield from _protocol({key: found["protocol"] for key, found in record["results"].items() if key != "chains"})
    yield ""


def _rows_of_result(result: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    for family, factor, label in (("swd", 1000, "1000 x SWD at {0}x{0}"), ("fd", 1, "{0}")):
        of_samples, of_data = (result.get(family, {}).get(who, {}) for who in ("samples", "data"))
        spread = result.get(f"{family}_spread", {}).get("samples", {})  # an older version measured one draw
        for name, mean in of_samples.items():
            deviation = f" ± {factor * spread[name]:.2g}" if name in spread else ""
            yield label.format(name), f"{factor * mean:.4g}{deviation}", f"{factor * of_data[name]:.4g}"


def _table(rows: Iterable[tuple[str, str, str]]) -> Iterator[str]:
    yield "| | samples | data |"
    yield "|---|---|---|"
    yield from (f"| {' | '.join(row)} |" for row in rows)
    yield ""


def _protocol(protocol: dict[str, Any]) -> Iterator[str]:
    for key, value in protocol.items():
        text = ", ".join(f"{name}: {item}" for name, item in value.items()) if isinstance(value, dict) else value
        yield f"- {key}: {text}"


def _weights(facts: Facts) -> Iterator[str]:
    yield "## Weights\n"
    yield (
        f"{facts.num_weights:,} weights, averaged over updates (learning.ema={facts.config.learning.ema:g}), in fp16, "
        f"from those in fp32 with SHA-256 `{facts.weights_sha256}`."
    )


def command_of(config: Config, *, num_workers: int = 1) -> str:
    """ "distmgcd train digits learning.num_updates=2000 --workers 1". load_config takes its settings to this config."""
    wanted = flatten(plain(config.model_dump()))
    changes = {name: _changes(flatten(plain(load_config(name).model_dump())), wanted) for name in preset_names()}
    nearest = min(changes, key=lambda name: len(changes[name]))
    return shlex.join(["distmgcd", "train", nearest, *changes[nearest], "--workers", str(num_workers)])


def _changes(before: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    return [f"{key}={_text(value)}" for key, value in wanted.items() if value != before.get(key)]


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("...\n").strip()
