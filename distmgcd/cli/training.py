"""train and debug: the same run, on Ray or in this process."""

from pathlib import Path
from typing import Annotated, Any

import typer

from distmgcd.cli import replay_options as options
from distmgcd.cli.common import Gpu, Name, Settings, StoragePath, WaitForResources, app, fail, print_all, split


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
) -> None:
    """Train on Ray: each worker runs the chains of its share of the images, gradients are averaged."""
    from distmgcd.num_workers import parse_workers

    source, overrides = split(settings)
    _run(
        "train",
        source,
        overrides,
        name=name,
        storage_path=storage_path,
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
    replay: options.ReplayOf = None,
    update: options.Update = None,
    images: options.Images = None,
    out: options.Out = None,
    alone: options.Alone = False,
    rate_scale: options.RateScale = None,
    data: options.DataPath = None,
) -> None:
    """The same training in this one process, without Ray, so that breakpoints work. --replay: see below."""
    what = {"update": update, "images": images, "out": out, "alone": alone, "rate_scale": rate_scale, "data": data}
    of_training = {"--name": name is not None, "--storage-path": storage_path != "runs"}
    options.check_options(replay, what, [*(settings or []), *(key for key, given in of_training.items() if given)])
    if replay is None:
        source, overrides = split(settings)
        _run("debug", source, overrides, name=name, storage_path=storage_path, use_gpu=gpu)
        return
    from distmgcd.replay_report import report

    try:
        report(replay, use_gpu=gpu, **what)
    except KeyboardInterrupt:
        fail("Stopped. The run is as it was.", status=130)


def _run(how: str, source: str, overrides: list[str], *, name: str | None, storage_path: str, **launch: Any) -> None:
    from distmgcd.config import load_config

    config = load_config(source, overrides)
    from distmgcd import launch as launcher
    from distmgcd.display import Display, table_of
    from distmgcd.training.stop import Stopped, StopSignals
    from distmgcd.training.watch import Diverged

    name = Path(source).stem if name is None else name
    signals = StopSignals()
    try:
        with signals, Display() as show:
            run = getattr(launcher, how)
            result = run(config, storage_path=storage_path, name=name, show=show, stop=signals, **launch)
    except Diverged as event:
        fail(event, status=1)
    except Stopped as event:
        fail(event, status=signals.status)
    except KeyboardInterrupt:
        fail("Stopped at once; the same command goes on from the newest checkpoint.", status=signals.status)
    folder = f"{storage_path.rstrip('/')}/{name}"
    print_all(table_of(result))
    typer.echo(
        f"Finished {result['update']} updates in {result['seconds']:.0f} s of training.\n"
        f"checkpoints    {folder}/checkpoints\n"
        f"sample sheet   {folder}/samples.png (every grid: pyramid.png)\n"
        f"TensorBoard    tensorboard --logdir {folder}/log\n"
        f"more samples   distmgcd sample {folder} --num 64 --out sheet.png"
    )
