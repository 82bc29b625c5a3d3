"""Everything that is told of a sweep, gathered from its trials and their folders before anything is written."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from PIL import Image

from distmgcd.config import Config, make_config
from distmgcd.errors import UserError
from distmgcd.evaluation.distances.sample_distance import evaluation_seeds
from distmgcd.runs import strict_json
from distmgcd.runs.store import Store
from distmgcd.sweep import ranking
from distmgcd.sweep.objective import label_of
from distmgcd.sweep.trial import Trial

NUM_SHEETS = 4  # of the best trials

# Two trials can only be compared if they agree in these.
_PROTOCOL = (
    "data.path",
    "data.split",
    "data.held_out",
    "data.validation",
    "evaluate.num_samples",
    "evaluate.num_draws",
    "evaluate.features",
)


class Sweep(Protocol):
    """What results need to know of a sweep."""

    name: str
    base: str  # a preset or a file
    objective: str  # "swd", "swd/16" or "fd"
    space: dict[str, str]  # {dotted path: what was searched, in words}
    num_updates: int  # of a trial that comes to its end

    def config_of(self, trial: Trial) -> Config:
        """The whole config of a trial. Raises UserError where its settings do not fit together."""
        ...

    def preset_of(self, trial: Trial) -> Config:
        """The same without what the sweep sets for its trials alone, such as how often they are evaluated."""
        ...


@dataclass(frozen=True)
class SweepResults:
    sweep: Sweep
    trials: Sequence[Trial]  # best first, those without result last
    configs: Mapping[str, Config]  # of the trials whose settings fit together
    best: Trial | None
    result: Mapping[str, Any] | None  # result.json of the best trial's run, if it has one
    sheets: Mapping[str, bytes]  # {name: PNG of samples} of the best trials, best first
    protocol: Mapping[str, str]  # what distances were measured on, in words
    warnings: Sequence[str]  # what makes them hard to compare, in sentences

    @cached_property
    def label(self) -> str:
        """The objective where there is little room."""
        return label_of(self.sweep.objective, self.trials)

    def sizes_of(self, trial: Trial) -> list[str]:
        """The grids of a trial, coarse to fine, as text."""
        config = self.configs.get(trial.name)
        return [str(size) for size in config.grids.sizes] if config else sorted(trial.swd, key=float)


def find(store: Store, sweep: Sweep, trials: Sequence[Trial]) -> SweepResults:
    """Look through the trials of a sweep. A folder that is gone or damaged takes its sheet along, nothing else."""
    ranked, (configs, unread) = ranking.ranked(trials), _configs(sweep, trials)
    best = ranking.best(ranked, NUM_SHEETS)
    sheets = {trial.name: _read(store, trial, "samples.png") for trial in best}
    result = _result(store, best[0]) if best else None
    return SweepResults(
        sweep=sweep,
        trials=ranked,
        configs=configs,
        best=best[0] if best else None,
        result=result,
        sheets={name: sheet for name, sheet in sheets.items() if sheet and _is_picture(sheet)},
        protocol=_protocol(configs.get(best[0].name), result) if best else {},
        warnings=[*_about_unread(unread), *_warnings(sweep, ranked, configs)],
    )


def _configs(sweep: Sweep, trials: Sequence[Trial]) -> tuple[dict[str, Config], list[str]]:
    """The configs by name, and why those of trials with a result are none for this version."""
    configs, why = {}, []
    for trial in trials:
        try:
            configs[trial.name] = sweep.config_of(trial)
        except UserError as error:
            if ranking.result(trial) is not None:  # else the settings did not fit, and its reason says so
                why.append(str(error))
    return configs, why


def _read(store: Store, trial: Trial, file: str) -> bytes | None:
    """A file of a trial's run, wherever the sweep's folder has been moved to."""
    inside = (store.path(f"trials/{trial.name}"), store.path(trial.name))
    for folder in (trial.run, *inside) if trial.run else inside:
        try:
            return Store(folder).read(file)
        except (OSError, UserError):
            continue
    return None


def _is_picture(content: bytes) -> bool:
    try:
        Image.open(io.BytesIO(content)).load()
    except (OSError, ValueError, SyntaxError):  # half of a file, or none of ours
        return False
    return True


def _result(store: Store, trial: Trial) -> dict[str, Any] | None:
    content = _read(store, trial, "result.json")
    try:
        result = strict_json.loads(content) if content else None
        return result if result and {"samples", "data"} <= set(result["swd"]) else None
    except (ValueError, KeyError, TypeError):
        return None


def _protocol(config: Config | None, result: Mapping[str, Any] | None) -> dict[str, str]:
    """Of the comparison, which all trials share; result.json of a trial has it word for word."""
    known = (result or {}).get("protocol", {})
    if config is None:
        return dict(known)
    data, evaluate, seeds = config.data, config.evaluate, evaluation_seeds(config)
    images = (
        f"a validation part, {100 * data.validation:g} % of the {data.split} images, that no trial was trained on"
        if data.validation
        else f"the held-out images ({data.held_out}), which the choice of settings has now seen"
    )
    return {
        "reference": f"{known['reference']}: {images}" if "reference" in known else images,
        "samples": f"{evaluate.num_samples} fresh chains a draw, averaged weights",
        "draws": _draws_in_words(seeds),
        "training": f"one run a trial, from seed {config.seed}; what another seed would change is not measured",
    } | {key: known[key] for key in ("metric", "fd") if key in known}


def _draws_in_words(seeds: range) -> str:
    if len(seeds) > 1:
        return f"{len(seeds)}, from seeds {seeds[0]} to {seeds[-1]}, the same for every trial"
    return f"1, from seed {seeds[0]}, the same for every trial; what another draw would change is not measured"


def _about_unread(why: Sequence[str]) -> list[str]:
    if not why:
        return []
    return [f"{len(why)} trials were made by another version of distmgcd and best.yaml is as it left it: {why[0]}"]


def _warnings(sweep: Sweep, trials: Sequence[Trial], configs: Mapping[str, Config]) -> Sequence[str]:
    found = []
    for path in _PROTOCOL:
        section, key = path.split(".")
        values = {str(getattr(getattr(config, section), key)) for config in configs.values()}
        if len(values) > 1:
            found.append(f"Trials differ in {path} ({', '.join(sorted(values))}), so their distances do not compare.")
    measured = {f"[{', '.join(sorted(trial.swd, key=float))}]" for trial in trials if trial.swd}
    if sweep.objective == "swd" and len(measured) > 1:
        found.append(
            f"Trials are measured at different grids ({', '.join(sorted(measured))}), and a mean over other grids is "
            "another measure: compare the distances of the grids that they share."
        )
    unequal = {trial.updates for trial in trials if trial.state == "finished"}
    if len(unequal) > 1:
        found.append(f"Finished trials have done different numbers of updates, {min(unequal)} to {max(unequal)}.")
    return found


def changed(config: Config, changes: Mapping[str, Any]) -> Config:
    """The config with these settings, {dotted path: value}. Raises UserError."""
    settings = config.model_dump()
    for path, value in changes.items():
        *sections, key = path.split(".")
        part = settings
        for section in sections:
            part = part[section]
        part[key] = value
    return make_config(settings)
