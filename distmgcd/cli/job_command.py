"""The command line of a job: read by the same parser that will read it on the cluster, before anything is sent."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import typer

from distmgcd.cli.common import app, split
from distmgcd.errors import UserError

COMMANDS = ("train", "tune", "evaluate")


@dataclass(frozen=True)
class JobCommand:
    arguments: tuple[str, ...]  # as they are to be given on the cluster
    preset: str  # or file
    name: str
    files: tuple[str, ...] = ()  # of this machine, that it names
    data_path: str | None = None

    @property
    def metadata(self) -> dict[str, str]:
        return {"command": self.arguments[0], "preset": self.preset, "name": self.name, "update": "0"}


def read_job_command(arguments: Sequence[str], *, folder: Path) -> JobCommand:
    """Raises UserError for a mistake in settings or paths, and click's own errors for one in flags."""
    commands: dict[str, Any] = vars(typer.main.get_command(app))["commands"]  # of a group, which typer does not declare
    known = [name for name in COMMANDS if name in commands]
    if not arguments or arguments[0] not in known:
        raise UserError(
            f"A job must be one of {', '.join(known)}, but is {arguments[0] if arguments else 'nothing'!r}; try "
            "`distmgcd submit -- train digits --storage-path /shared/runs`."
        )
    command, *rest = arguments
    params = commands[command].make_context(f"distmgcd {command}", list(rest)).params
    _check_storage(params)
    return _READERS.get(command, _read_other)(tuple(arguments), params, folder)


def _read_train(arguments: tuple[str, ...], params: dict[str, Any], folder: Path) -> JobCommand:
    from distmgcd.config import files_of, load_config
    from distmgcd.data import check_shares
    from distmgcd.runs.run_folder import check_place
    from distmgcd.workers.num_workers import bounds, parse_workers

    source, overrides = split(params["settings"])
    config = load_config(source, overrides)
    _check_data(config.data.path)
    learning = config.learning
    check_shares(learning.global_batch_size, *bounds(parse_workers(params["workers"])), block=learning.block_size or 1)
    if params["start"]:
        check_on_cluster("--from", params["start"])
    found = _with_file_inside(arguments, source, params["name"], folder)
    check_place(params["storage_path"], found.name)
    return _with_files(replace(found, data_path=config.data.path), files_of(source))


def _read_tune(arguments: tuple[str, ...], params: dict[str, Any], folder: Path) -> JobCommand:
    from distmgcd.launch.start_sweep import check_shares_of_trials
    from distmgcd.runs.run_folder import check_place
    from distmgcd.sweep.file import read_sweep, sweep_names

    source, *overrides = params["settings"]
    sweep = read_sweep(source, overrides, num_trials=params["trials"])
    _check_data(sweep.base["data.path"])
    if (workers := params["workers_per_trial"]) is not None:
        sweep = replace(sweep, workers_per_trial=workers)
    check_shares_of_trials(sweep)
    found = _with_file_inside(arguments, source, params["name"], folder)
    check_place(params["storage_path"], sweep.name if params["name"] is None else params["name"])
    found = replace(found, data_path=sweep.base["data.path"])
    files = {} if source in sweep_names() else {source: sweep.base_name, **_files_of_base(sweep.base_name, source)}
    return _with_files(found, files)


def _files_of_base(base: str, file: str) -> dict[str, str | None]:
    from distmgcd.config import files_of, find_base
    from distmgcd.sweep.file import OWN_BASE

    return {} if base == OWN_BASE else files_of(find_base(base, Path(file).parent))


def _with_files(job: JobCommand, files: Mapping[str, str | None]) -> JobCommand:
    """files: {file: its base}. The job finds a base from beside the file that names it. Raises UserError."""
    for file, base in files.items():
        if base and Path(base).is_absolute():
            raise UserError(f"The base {base} of {file} is a path of this machine; name the file as seen from {file}.")
    return replace(job, files=tuple(files))


def _read_other(arguments: tuple[str, ...], params: dict[str, Any], folder: Path) -> JobCommand:
    """evaluate RUN ...: all it reads is on the cluster."""
    from distmgcd.runs.pretrained import is_pretrained

    run, out = str(params.get("run") or ""), params.get("out")
    if run:
        check_on_cluster("The run", run)
    if isinstance(out, str) or (is_pretrained(run) and "out" in params and out is None):
        check_on_cluster("--out", out or "runs/pretrained-NAME")
    return JobCommand(arguments, run, Path(run).name or arguments[0])


_READERS: dict[str, Callable[[tuple[str, ...], dict[str, Any], Path], JobCommand]] = {
    "train": _read_train,
    "tune": _read_tune,
}


def _with_file_inside(arguments: tuple[str, ...], source: str, name: str | None, folder: Path) -> JobCommand:
    """source: a preset, or a file, which the job finds by its path below the folder."""
    from distmgcd.on_ray.jobs.pack import name_inside

    name = Path(source).stem if name is None else name
    if Path(source).suffix not in (".yaml", ".yml"):
        return JobCommand(arguments, source, name)
    inside = name_inside(folder, source)
    return JobCommand(tuple(inside if word == source else word for word in arguments), inside, name)


def _check_storage(params: dict[str, Any]) -> None:
    if path := params.get("storage_path"):
        check_on_cluster("--storage-path", path)


def _check_data(path: str) -> None:
    root = path.partition("root=")[2].partition("&")[0] if path.startswith("torchvision:") else path
    if root and not root.startswith("sklearn:"):
        check_on_cluster("data.path", root)


def check_on_cluster(what: str, path: str) -> None:
    """Raise UserError if a path can only mean something on this machine. Pretrained models go with the package."""
    from distmgcd.runs.pretrained import is_pretrained

    if not is_pretrained(path) and "://" not in path and not Path(path).is_absolute():
        raise UserError(
            f"{what} {path} is a folder of this machine, which the cluster does not see; give a folder that all its "
            "nodes share by its whole path, such as /shared/runs, or a URI such as s3://BUCKET/PATH."
        )
