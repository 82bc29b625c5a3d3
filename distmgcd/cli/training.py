"""train and debug: the same run, on Ray or in this process."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distmgcd.cli import replay_options as options
from distmgcd.cli import start_options as starts
from distmgcd.cli.common import Gpu, Name, Settings, StoragePath, WaitForResources, app, fail, print_all, say, split

if TYPE_CHECKING:
    from distmgcd.config import Config
    from distmgcd.workers.num_workers import NumWorkers


@app.command()
def train(
    settings: Settings = None,
    workers: Annotated[
        str, typer.Option(help="Ray Train workers, who share every batch; 2:8 is from 2 to 8, as nodes come and go.")
    ] = "2",
    gpu: Gpu = None,
    cpus_per_worker: Annotated[
        int | None, typer.Option(min=1, help="CPUs, and threads, of a worker.", show_default="an equal share")
    ] = None,
    wait_for_resources: WaitForResources = False,
    name: Name = None,
    storage_path: StoragePath = "runs",
    start: starts.From = None,
    from_checkpoint: starts.FromCheckpoint = None,
    from_weights: starts.FromWeights = None,
) -> None:
    """Train on Ray: each worker runs the chains of its share of the images, gradients are averaged."""
    from distmgcd.workers.num_workers import parse_workers

    source, overrides = split(settings)
    _run(
        "train",
        source,
        overrides,
        name=name,
        storage_path=storage_path,
        start_from=starts.start_from(start, from_checkpoint, from_weights),
        num_workers=parse_workers(workers),
        use_gpu=gpu,
        cpus_per_worker=cpus_per_worker,
        wait_for_resources=wait_for_resources,
    )


@app.command()
def debug(
    settings: Settings = None,
    gpu: Gpu = None,
    name: Name = None,
    storage_path: StoragePath = "runs",
    start: starts.From = None,
    from_checkpoint: starts.FromCheckpoint = None,
    from_weights: starts.FromWeights = None,
    replay: options.ReplayOf = None,
    update: options.Update = None,
    images: options.Images = None,
    out: options.Out = None,
    alone: options.Alone = False,
    rate_scale: options.RateScale = None,
    data: options.DataPath = None,
) -> None:
    """The same training in this one process, without Ray, so that breakpoints work. --replay: see below.

    Chains take plain execution, step by step; speed.execution=traced (on a GPU captured) is as fast as train.
    """
    what = {"update": update, "images": images, "out": out, "alone": alone, "rate_scale": rate_scale, "data": data}
    of_training = {
        "--name": name is not None,
        "--storage-path": storage_path != "runs",
        "--from": start is not None,
        "--from-checkpoint": from_checkpoint is not None,
        "--from-weights": from_weights is not None,
    }
    options.check_options(replay, what, [*(settings or []), *(key for key, given in of_training.items() if given)])
    if replay is None:
        source, overrides = split(settings)
        how = {"start_from": starts.start_from(start, from_checkpoint, from_weights), "use_gpu": gpu}
        _run("debug", source, overrides, name=name, storage_path=storage_path, **how)
        return
    say(f"Replaying update {update} of {replay}. Loading torch and the images ...")
    from distmgcd.report.replay_tables import report

    what["rate_scale"] = options.rate_scale_of(rate_scale)
    try:
        report(replay, use_gpu=gpu, **what)
    except KeyboardInterrupt:
        fail("Stopped. The run is as it was.", status=130)


def _run(how: str, source: str, overrides: list[str], *, name: str | None, storage_path: str, **launch: Any) -> None:
    from distmgcd.config import load_config
    from distmgcd.workers.stop import Stopped, StopSignals

    config = load_config(source, overrides)
    from distmgcd.runs.run_folder import Run

    name = Path(source).stem if name is None else name
    folder = f"{storage_path.rstrip('/')}/{name}"
    before = Run.at(storage_path, name).result()
    signals = StopSignals()
    try:
        with signals:
            say(_first_line(config, folder, launch.get("num_workers")))  # torch and Ray take seconds to import
            result = _result(how, config, storage_path=storage_path, name=name, stop=signals, **launch)
    except Stopped as event:
        fail(event, status=signals.status)
    except KeyboardInterrupt:
        again = "the same command goes on from the newest checkpoint, or from the beginning if there is none"
        fail(f"Stopped at once; {again}.", status=signals.status)
    from distmgcd.cli.terminal.run_display import table_of, unseen

    print_all(table_of(result))
    done = f"{result['update']} updates in {result['seconds']:.0f} s of training"
    again = f"The run {folder} was finished before ({done}); nothing was done now. Another --name trains anew."
    say(f"{unseen(folder)}\n{again if result == before else f'Finished {done}.'}")
    typer.echo(
        f"checkpoints    {folder}/checkpoints\n"
        f"sample sheet   {folder}/samples.png (every grid: pyramid.png)\n"
        f"TensorBoard    tensorboard --logdir {shlex.quote(storage_path)} (all runs there, beside each other)\n"
        f"more samples   distmgcd sample {shlex.quote(folder)} --num 64 --out sheet.png"
    )


def _result(how: str, config: "Config", **launch: Any) -> dict[str, Any]:
    from distmgcd.cli.terminal.run_display import Display
    from distmgcd.launch import start_run as launcher
    from distmgcd.training.divergence import Diverged

    try:
        with Display() as show:
            return getattr(launcher, how)(config, show=show, **launch)
    except Diverged as event:
        fail(event, status=1)


def _first_line(config: "Config", folder: str, num_workers: "NumWorkers | None") -> str:
    learning, where = config.learning, "in this process"
    if num_workers is not None:
        least, most = num_workers if isinstance(num_workers, tuple) else (num_workers, num_workers)
        where = f"on Ray with {most if least == most else f'{least} to {most}'} worker{'s' if most > 1 else ''}"
    updates = f"{learning.num_updates} updates of {learning.global_batch_size} images"
    return f"Run {folder}: {updates}, {where}. Loading torch and the images ..."
