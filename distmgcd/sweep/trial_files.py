"""The folder of a sweep, and what is noted there of every trial.

STORAGE/NAME/sweep.yaml               the whole sweep; a name holds one sweep for ever
STORAGE/NAME/trials/trial_0007        the run of a trial, like any other run, and trial.json, which says the rest
STORAGE/NAME/ray/                     files of Tune, which nothing is read from
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, get_args

import yaml

from distmgcd.config import flatten
from distmgcd.errors import UserError
from distmgcd.runs import strict_json
from distmgcd.runs.store import Store
from distmgcd.sweep.plan import Sweep, to_yaml
from distmgcd.sweep.trial import State

SWEEP_FILE = "sweep.yaml"
TRIALS = "trials"
ENDED: tuple[State, ...] = ("finished", "pruned", "diverged")  # a sweep that goes on lets these be

# What may change when a sweep goes on: none of these decides what its trials find.
_MAY_CHANGE = ("num_trials", "workers_per_trial")

_ON_DISK = {"parameters": "knobs"}  # trial.json of every version has this word
_FIELDS = {word: field for field, word in _ON_DISK.items()}


@dataclass(frozen=True, kw_only=True)
class TrialState:
    """What a trial's run does not say of itself."""

    name: str
    state: State
    reason: str = ""
    failures: list[str] = field(default_factory=list)  # that it went on after, a sentence each
    parameters: dict[str, Any] = field(default_factory=dict)
    draws: dict[str, Any] = field(
        default_factory=dict
    )  # what the search made the parameters from, if it must know again
    run: str = ""  # the folder of its run in trials/: its name, or trial_0007.2 once it went on from another trial
    start: dict[str, Any] = field(default_factory=dict)  # {"run": the other trial's, "update": of its checkpoint}


def claim(store: Store, sweep: Sweep, *, resume: bool) -> None:
    """Write what the sweep is, or see that this folder holds it already.

    Raises UserError if it holds another, or holds this one and it was not asked to go on with it.
    """
    if store.exists(SWEEP_FILE):
        _check_same(store, sweep)
        if not resume:
            raise UserError(
                f"The sweep {store.location} exists already, with {len(read_trial_states(store))} trials begun; give "
                "--resume to go on with it, or another --name."
            )
    try:
        store.write(SWEEP_FILE, to_yaml(sweep).encode())
    except OSError as error:
        raise UserError(
            f"The sweep {store.location} cannot be written ({error.strerror or error}); choose a --storage-path that "
            "can."
        ) from None


def write_trial_state(store: Store, trial_state: TrialState) -> None:
    """Raises OSError."""
    fields = {_ON_DISK.get(key, key): value for key, value in asdict(trial_state).items()}
    store.write(f"{TRIALS}/{trial_state.name}/trial.json", strict_json.dumps(fields, indent=1).encode())


def read_trial_states(store: Store) -> list[TrialState]:
    """Of every trial that has begun, by name, but for those whose trial.json is lost or damaged: see lost_trials."""
    return [trial_state for name in _names(store) if (trial_state := _read_trial_state(store, name))]


def lost_trials(store: Store) -> dict[str, str]:
    """{name: the folder of its last run} of the trials that have a run but no trial.json that can be read."""
    folders = store.names(TRIALS)
    return {
        name: max(runs, key=_stretch)
        for name in _names(store)
        if _read_trial_state(store, name) is None
        and (runs := [f for f in folders if f.partition(".")[0] == name and store.exists(f"{TRIALS}/{f}/config.yaml")])
    }


def _names(store: Store) -> list[str]:
    """Of trials; trial_0007.2 is a later stretch of trial_0007, and whatever else may lie there is none of ours."""
    return [name for name in store.names(TRIALS) if re.fullmatch(r"trial_\d+", name)]


def _stretch(folder: str) -> int:
    return int(folder.partition(".")[2] or 1)


def _read_trial_state(store: Store, name: str) -> TrialState | None:
    try:
        fields = strict_json.loads(store.read(f"{TRIALS}/{name}/trial.json"))
        trial_state = TrialState(**{_FIELDS.get(key, key): value for key, value in fields.items()})
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    whole = (
        trial_state.name == name and trial_state.state in get_args(State) and isinstance(trial_state.parameters, dict)
    )
    return trial_state if whole else None


def location_of(store: Store, trial_state: TrialState) -> str:
    """The path of its run folder."""
    return store.path(f"{TRIALS}/{trial_state.run or trial_state.name}")


def _check_same(store: Store, sweep: Sweep) -> None:
    old, new = (_identity(text) for text in (store.read(SWEEP_FILE), to_yaml(sweep).encode()))
    changed = [
        f"{key} ({old.get(key)} there, {new.get(key)} now)" for key in sorted(old | new) if old.get(key) != new.get(key)
    ]
    if changed:
        raise UserError(
            f"The sweep {store.location} holds a different one: {', '.join(changed)}; choose another --name, or give "
            "the settings it has to go on with it."
        )


def _identity(text: bytes) -> Mapping[str, Any]:
    try:
        settings = flatten(yaml.safe_load(text))
    except (yaml.YAMLError, AttributeError):
        settings = {"sweep.yaml": "damaged"}
    return {key: value for key, value in settings.items() if key not in _MAY_CHANGE}
