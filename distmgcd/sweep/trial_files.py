"""The folder of a sweep: what it is, and what is known of every trial.

STORAGE/NAME/sweep.yaml               the whole sweep; a name holds one sweep for ever
STORAGE/NAME/trials/trial_0007        the run of a trial, like any other run, and trial.json, see TrialState
STORAGE/NAME/ray/                     files of Tune, of which nothing is read but what the Python API returns

A sweep is known from these alone. results.parquet and all else beside them is written from them and never read.
"""

import re
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args

import yaml

from distmgcd.config import flatten
from distmgcd.errors import UserError
from distmgcd.runs import strict_json
from distmgcd.runs.run_folder import Run
from distmgcd.runs.store import Store
from distmgcd.sweep.file import read_sweep
from distmgcd.sweep.plan import Sweep, flat_of, to_yaml
from distmgcd.sweep.space import Space, parameters_of
from distmgcd.sweep.trial import State, TrialState

SWEEP_FILE = "sweep.yaml"
TRIALS = "trials"

# What may change when a sweep goes on: none of these decides what its trials find.
_MAY_CHANGE = ("num_trials", "workers_per_trial")

_ON_DISK = {"parameters": "knobs"}  # trial.json of every version has this word
_FIELDS = {word: field for field, word in _ON_DISK.items()}


def claim(store: Store, sweep: Sweep, *, resume: bool) -> None:
    """Write what the sweep is, or see that this folder holds it already.

    Raises UserError if it holds another, or holds this one and resume was not asked for.
    """
    if store.exists(SWEEP_FILE):
        _check_same(store, sweep)
        if not resume:
            num_begun = sum(not trial.is_lost for trial in read_trial_states(store, sweep.space))
            raise UserError(
                f"The sweep {store.location} exists already, with {num_begun} trials begun; give --resume to go on "
                "with it, or another --name."
            )
    try:
        store.write(SWEEP_FILE, to_yaml(sweep).encode())
    except OSError as error:
        raise UserError(
            f"The sweep {store.location} cannot be written ({error.strerror or error}); choose a --storage-path that "
            "can."
        ) from None


def sweep_of(store: Store) -> Sweep:
    """The sweep of this folder, under the folder's name. Raises UserError if there is none, or it cannot be read."""
    if not store.exists(SWEEP_FILE):
        near = f"sweeps/{Path(store.location).name}"
        meant = f" (did you mean {near}?)" if store.is_local and Path(near, SWEEP_FILE).is_file() else ""
        raise UserError(
            f"There is no sweep at {store.location}{meant}: it has no {SWEEP_FILE}; `distmgcd tune` prints the folder "
            "it wrote to."
        )
    content = store.read(SWEEP_FILE)
    first_line = content.decode(errors="replace").partition("\n")[0]
    with tempfile.TemporaryDirectory() as folder:  # the store may be a bucket
        copy = Path(folder, SWEEP_FILE)
        copy.write_bytes(content)
        try:
            sweep = read_sweep(str(copy))
        except UserError as error:
            raise UserError(str(error).replace(str(copy), store.path(SWEEP_FILE))) from None
    return replace(sweep, name=Path(store.location).name, base_name=first_line.removeprefix("# base: "))


def write_trial_state(store: Store, trial: TrialState) -> None:
    """Raises OSError."""
    fields = {_ON_DISK.get(key, key): value for key, value in asdict(trial).items() if key != "is_lost"}
    store.write(f"{TRIALS}/{trial.name}/trial.json", strict_json.dumps(fields, indent=1).encode())


def read_trial_states(store: Store, space: Space) -> list[TrialState]:
    """Of every trial that has begun, by name. Where trial.json is lost or damaged, as the trial's last run has it."""
    folders = store.names(TRIALS)
    names = sorted(name for name in folders if re.fullmatch(r"trial_\d+", name))
    found = (_read(store, name) or _seen_in_run(store, name, folders, space) for name in names)
    return [trial for trial in found if trial]


def location_of(store: Store, trial: TrialState) -> str:
    """The path of its run folder."""
    return store.path(f"{TRIALS}/{trial.run or trial.name}")


def _read(store: Store, name: str) -> TrialState | None:
    try:
        fields: dict[str, Any] = strict_json.loads(store.read(f"{TRIALS}/{name}/trial.json"))
        trial = TrialState(**{str(_FIELDS.get(key, key)): value for key, value in fields.items()})
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    is_whole = trial.name == name and trial.state in get_args(State) and isinstance(trial.parameters, dict)
    return trial if is_whole else None


def _seen_in_run(store: Store, name: str, folders: list[str], space: Space) -> TrialState | None:
    """None if the trial has no run either."""
    runs = [f for f in folders if f.partition(".")[0] == name and store.exists(f"{TRIALS}/{f}/config.yaml")]
    if not runs:
        return None
    run = max(runs, key=lambda folder: int(folder.partition(".")[2] or 1))
    try:
        parameters = parameters_of(space, flat_of(Run.open(store.path(f"{TRIALS}/{run}")).config()))
    except UserError:  # the config is damaged, too: the run cannot go on, and says so
        parameters = {}
    return TrialState(name=name, state="running", parameters=parameters, run=run, is_lost=True)


def _check_same(store: Store, sweep: Sweep) -> None:
    """Raises UserError. Settings that the version which wrote the file did not have are at their defaults there."""
    try:
        old = _identity(sweep_of(store))
    except UserError:
        old = {SWEEP_FILE: "damaged"}
    new = _identity(sweep)
    changed = [
        f"{key} ({old.get(key)} there, {new.get(key)} now)" for key in sorted(old | new) if old.get(key) != new.get(key)
    ]
    if changed:
        raise UserError(
            f"The sweep {store.location} holds a different one: {', '.join(changed)}; choose another --name, or give "
            "the settings it has to go on with it."
        )


def _identity(sweep: Sweep) -> dict[str, Any]:
    settings = flatten(yaml.safe_load(to_yaml(sweep)))
    return {key: value for key, value in settings.items() if key not in _MAY_CHANGE}
