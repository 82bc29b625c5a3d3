"""All that results and reports say of a sweep, gathered from its trials before anything is written."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from PIL import Image

from distmgcd.config import Config
from distmgcd.errors import UserError
from distmgcd.evaluation.distances.draws import evaluation_seeds
from distmgcd.runs import strict_json
from distmgcd.runs.store import Store
from distmgcd.sweep import ranking
from distmgcd.sweep.objective import label_of
from distmgcd.sweep.plan import Sweep
from distmgcd.sweep.space import words
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


@dataclass(frozen=True)
class SweepResults:
    sweep: Sweep
    trials: Sequence[Trial]  # best first, those without result last
    best: Trial | None
    result: Mapping[str, Any] | None  # result.json of the best trial's run, if it has one
    sheets: Mapping[str, bytes]  # {name: PNG of samples} of the best trials, best first
    protocol: Mapping[str, str]  # what distances were measured on, in words
    warnings: Sequence[str]  # what makes them hard to compare, in sentences

    @cached_property
    def label(self) -> str:
        """The objective in few letters."""
        return label_of(self.sweep.objective, self.trials)

    @cached_property
    def space(self) -> dict[str, str]:
        """{dotted path: what was searched, in words}."""
        return words(self.sweep.space)


def gather(sweep: Sweep, trials: Sequence[Trial]) -> SweepResults:
    """Look through the trials of a sweep. A sheet that is gone or damaged is left out."""
    ranked, best = ranking.ranked(trials), ranking.best(trials)
    sheets = {trial.name: _read(trial, "samples.png") for trial in ranking.the_best(ranked, NUM_SHEETS)}
    result = _result(best) if best else None
    return SweepResults(
        sweep=sweep,
        trials=ranked,
        best=best,
        result=result,
        sheets={name: sheet for name, sheet in sheets.items() if sheet and _is_picture(sheet)},
        protocol=_protocol(best.config, result) if best else {},
        warnings=_warnings(sweep, ranked),
    )


def _read(trial: Trial, file: str) -> bytes | None:
    """A file of a trial's run."""
    try:
        return Store(trial.run).read(file)
    except (OSError, UserError):
        return None


def _is_picture(content: bytes) -> bool:
    try:
        Image.open(io.BytesIO(content)).load()
    except (OSError, ValueError, SyntaxError):  # half of a file, or none of ours
        return False
    return True


def _result(trial: Trial) -> dict[str, Any] | None:
    content = _read(trial, "result.json")
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


def _warnings(sweep: Sweep, trials: Sequence[Trial]) -> Sequence[str]:
    found, configs = [], [trial.config for trial in trials if trial.config]
    for path in _PROTOCOL:
        section, key = path.split(".")
        values = {str(getattr(getattr(config, section), key)) for config in configs}
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
