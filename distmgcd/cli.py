"""The command line. It imports torch and Ray only inside the commands that need them, so --help is quick."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from distmgcd import replay_options as options
from distmgcd.errors import UserError

app = typer.Typer(
    help="Multi-grid energy-based generative ConvNets, trained by MCMC on one process or a cluster.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Bring images into Parquet, and look at them.", no_args_is_help=True)
app.add_typer(data_app, name="data")

Settings = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[PRESET|FILE.yaml] [key=value ...]",
        help="A preset or a YAML file (default digits), then changes to it.",
    ),
]
Name = Annotated[
    str | None,
    typer.Option(
        help="The run's name; the same command under the same name goes on where it stopped. [default: the preset's]"
    ),
]
StoragePath = Annotated[
    str, typer.Option(help="The folder of all runs: a local path or a URI such as s3://BUCKET/PATH.")
]
Gpu = Annotated[bool | None, typer.Option("--gpu/--cpu", help="[default: a GPU where there is one]")]


@app.command()
def train(
    settings: Settings = None,
    workers: Annotated[
        str, typer.Option(help="Ray Train workers, who share every batch; 2:8 is from 2 to 8, as nodes come and go.")
    ] = "2",
    gpu: Gpu = None,
    cpus_per_worker: Annotated[
        int | None, typer.Option(min=1, help="CPUs, and threads, of a worker. [default: an equal share]")
    ] = None,
    name: Name = None,
    storage_path: StoragePath = "runs",
) -> None:
    """Train on Ray: each worker runs the chains of its share of the images, gradients are averaged."""
    from distmgcd.num_workers import parse_workers

    source, overrides = _split(settings)
    _run(
        "train",
        source,
        overrides,
        name=name,
        storage_path=storage_path,
        num_workers=parse_workers(workers),
        use_gpu=gpu,
        cpus_per_worker=cpus_per_worker,
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
        source, overrides = _split(settings)
        _run("debug", source, overrides, name=name, storage_path=storage_path, use_gpu=gpu)
        return
    from distmgcd.replay_report import report

    try:
        report(replay, use_gpu=gpu, **what)
    except KeyboardInterrupt:
        _fail("Stopped. The run is as it was.", status=130)


@app.command()
def tune(
    settings: Annotated[
        list[str],
        typer.Argument(metavar="SWEEP.yaml [key=value ...]", help="A sweep file, then changes to its base config."),
    ],
    trials: Annotated[int | None, typer.Option(min=1, help="How many. [default: the file's]")] = None,
    concurrent: Annotated[int | None, typer.Option(help="Trials at a time. [default: as many as fit]")] = None,
    workers_per_trial: Annotated[
        int | None,
        typer.Option(help="Ray Train workers of a trial; 0: it is one process. [default: the file's, or else 0]"),
    ] = None,
    gpu: Gpu = None,
    name: Annotated[str | None, typer.Option(help="The sweep's name. [default: the file's]")] = None,
    storage_path: Annotated[str, typer.Option(help="The folder of all sweeps: a local path or a URI.")] = "sweeps",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the sweep of this name.")] = False,
) -> None:
    """Search settings with Ray Tune: many trials, each a run of its own; ends with a file that trains the best."""
    from distmgcd.sweep.file import read_sweep

    if "=" in settings[0]:
        raise UserError(
            f"The first argument must be a sweep file, but is {settings[0]!r}; try tune_configs/smoke.yaml."
        )
    sweep = read_sweep(settings[0], settings[1:], num_trials=trials)
    from distmgcd import tuning
    from distmgcd.sweep_display import SweepDisplay, lines_of_result

    asked = {"concurrent": concurrent, "workers_per_trial": workers_per_trial, "use_gpu": gpu, "resume": resume}
    try:
        tuning.tune(sweep, storage_path=storage_path, name=name, show=SweepDisplay(sweep.num_trials), **asked)
    except KeyboardInterrupt:
        _fail("Stopped. The same command with --resume goes on: ended trials are kept.", status=130)
    folder = f"{storage_path.rstrip('/')}/{name or sweep.name}"
    for line in lines_of_result(*tuning.outcome(sweep, folder), folder):
        typer.echo(line)


@app.command()
def sample(
    run: Annotated[str, typer.Argument(help="The folder of a run, as `distmgcd train` printed it.")],
    num: Annotated[int, typer.Option(min=1, help="How many samples.")] = 64,
    seed: int = 0,
    out: Annotated[Path, typer.Option(help=".png is a sheet; .npz and .parquet hold the pictures as data.")] = Path(
        "samples.png"
    ),
    checkpoint: Annotated[
        str, typer.Option(metavar="newest|best|UPDATE", help="Which; the best is so by checkpoint.metric.")
    ] = "newest",
    gpu: Gpu = None,
) -> None:
    """Draw fresh samples of a trained run. Sample i depends on the seed and i only."""
    if out.suffix not in (".png", ".npz", ".parquet"):
        raise UserError(
            f"--out must end in .png, .npz or .parquet, but is {str(out)!r}; try {out.with_suffix('.png')}."
        )
    from distmgcd.data.samples import write_npz, write_parquet
    from distmgcd.evaluate.sheet import save_sheet, to_levels
    from distmgcd.training.trained import load
    from distmgcd.training.worker import choose_device

    trained = load(run, which=checkpoint, device=choose_device(gpu))
    images = trained.sample(num, seed=seed)
    with _writable(out):
        if out.suffix == ".png":
            save_sheet(images, out)
        else:
            pixels = to_levels(images).transpose(0, 3, 1, 2)
            (write_npz if out.suffix == ".npz" else write_parquet)(pixels, out)
    typer.echo(f"{num} samples of {run} (update {trained.update}, seed {seed}): {out}")


@app.command()
def runs(path: Annotated[str, typer.Argument(help="Their folder: a local path or a URI.")] = "runs") -> None:
    """List the runs under a storage path: state, update, distance, size, when last written."""
    from distmgcd.display import lines_of_runs
    from distmgcd.runs.listing import summaries

    found = summaries(path)
    for line in lines_of_runs(found) if found else [f"There are no runs in {path}."]:
        typer.echo(line)


@app.command()
def verify(run: Annotated[str, typer.Argument(help="The folder of a run.")]) -> None:
    """Check everything a run has written: checksums, and that it loads. Status 1 if something is damaged."""
    from distmgcd.training.verify import verify as look_at

    num_damaged = 0
    for finding in look_at(run):
        num_damaged += finding.damage is not None
        state = "ok" if finding.damage is None else "DAMAGED"
        said = finding.note if finding.damage is None else f"{finding.damage}; {finding.way_out}"
        typer.echo(f"{state:<8}{finding.what}{f': {said}' if said else ''}")
    if num_damaged:
        _fail(f"{num_damaged} of what {run} holds is damaged; the lines above say what to do.", status=1)


@app.command()
def report(sweep: Annotated[str, typer.Argument(help="The folder of a sweep, as `distmgcd tune` printed it.")]) -> None:
    """Write report.html, best.yaml and best_samples.png of a sweep anew, and print its best trials."""
    from distmgcd.runs.store import Store
    from distmgcd.sweep.results import write_report
    from distmgcd.sweep.table import lines_of_files, table_of

    store = Store(sweep)
    try:
        findings = write_report(store)
    except OSError as error:
        raise UserError(
            f"The report of the sweep {sweep} cannot be written ({error.strerror or error}); free space there, or copy "
            "the folder to where you may write."
        ) from None
    _print(table_of(findings.trials, objective=findings.sweep.objective))
    for line in lines_of_files(store):
        typer.echo(line)


@app.command()
def config(settings: Settings = None) -> None:
    """Print the whole config of a preset or file, changes applied."""
    from distmgcd.config import load_config, to_yaml

    typer.echo(to_yaml(load_config(*_split(settings))), nl=False)


@app.command()
def bench(
    settings: Settings = None,
    workers: Annotated[int, typer.Option(min=0, help="Also time the loop under Ray Train with so many workers.")] = 0,
    scaling: Annotated[
        bool, typer.Option("--scaling", help="Time only 1 worker against --workers, under torchrun and under Ray.")
    ] = False,
    json_path: Annotated[Path | None, typer.Option("--json", help="Also write the figures to this file.")] = None,
    gpu: Gpu = None,
) -> None:
    """Time the chains and the update loop, against a bare textbook loop and this machine's matrix product."""
    import json

    from distmgcd.config import load_config

    config = load_config(*_split(settings))
    if scaling:
        from distmgcd.bench.scaling import bench_scaling, table_of_scaling

        figures = bench_scaling(config, num_workers=workers or 2, use_gpu=bool(gpu))
        _print(*table_of_scaling(figures))
    else:
        from distmgcd.bench.speed import bench as run_bench
        from distmgcd.bench.speed import table_of

        figures = run_bench(config, use_gpu=gpu, num_workers=workers)
        _print(*table_of(figures))
    if json_path:
        json_path.write_text(json.dumps(figures, indent=1))


@data_app.command("import")
def data_import(
    source: Annotated[
        str, typer.Argument(help="A folder of images, Parquet, sklearn:digits, or torchvision:NAME?root=DIR.")
    ],
    dest: Annotated[str, typer.Argument(help="The Parquet file to write.")],
    image_size: Annotated[
        int | None, typer.Option(help="Crop the centre square and resize to so many pixels a side.")
    ] = None,
    channels: Annotated[int | None, typer.Option(help="1 makes all images grey, 3 makes all colour.")] = None,
    layout: Annotated[str, typer.Option(help="png or raw (uint8).")] = "png",
    max_corrupt: Annotated[float, typer.Option(help="Largest fraction of images that may not decode.")] = 0.001,
) -> None:
    """Write any source of images to one Parquet file."""
    from distmgcd.data import import_images

    report = import_images(
        source, dest, image_size=image_size, channels=channels, layout=layout, max_corrupt=max_corrupt
    )
    splits = ", ".join(f"{count} {split}" for split, count in report.splits.items())
    typer.echo(f"{report.num_images} images ({splits}), {report.num_bytes / 2**20:.1f} MiB: {report.path}")
    for row, reason in report.skipped:
        typer.echo(f"skipped row {row}: {reason}")


@data_app.command("show")
def data_show(
    path: Annotated[str, typer.Argument(help="Whatever `data import` takes.")],
    out: Annotated[Path | None, typer.Option(help="Also write a contact sheet of examples to this PNG.")] = None,
) -> None:
    """Say what is in a data set: splits, sizes, channels, labels, damage."""
    from distmgcd.data import describe

    found = describe(path)
    labels = (
        "none"
        if found.labels is None
        else ", ".join(f"{_class_name(found, label)}: {count}" for label, count in found.labels.items())
    )
    splits = ", ".join(f"{count} {split}" for split, count in found.splits.items())
    lines = {
        "images": f"{found.num_rows} ({splits}; {found.split_origin})",
        "stored as": found.layout + ("" if found.num_bytes is None else f", {found.num_bytes / 2**20:.1f} MiB"),
        "sizes": ", ".join(f"{width}x{height}: {count}" for (width, height), count in found.image_sizes.items())
        + f" of {found.num_sampled} looked at",
        "channels": ", ".join(f"{channels}: {count}" for channels, count in found.channels.items()),
        "labels": labels,
        "corrupt": f"{len(found.corrupt)} of {found.num_sampled} looked at"
        + "".join(f"; row {row}: {reason}" for row, reason in found.corrupt),
    }
    for title, text in lines.items():
        typer.echo(f"{title + ':':<11}{text}")
    if out:
        from distmgcd.evaluate.sheet import save_examples

        if not found.examples:
            raise UserError(f"--out has nothing to show, for no image of {path!r} that was looked at can be decoded.")
        with _writable(out):
            save_examples(found.examples, out)
        typer.echo(f"{'examples:':<11}{out}")


def main() -> None:
    """Run the command line; a user's mistake is one sentence and status 2, a run that diverged one and status 1."""
    try:
        app()
    except UserError as error:
        _fail(error, status=2)


def _run(how: str, source: str, overrides: list[str], *, name: str | None, storage_path: str, **launch: Any) -> None:
    from distmgcd.config import load_config

    config = load_config(source, overrides)
    from distmgcd import launch as launcher
    from distmgcd.display import Display, table_of
    from distmgcd.training.stop import Stopped, StopSignals
    from distmgcd.training.watch import Diverged

    name = name or Path(source).stem
    signals = StopSignals()
    try:
        with signals, Display() as show:
            run = getattr(launcher, how)
            result = run(config, storage_path=storage_path, name=name, show=show, stop=signals, **launch)
    except Diverged as event:
        _fail(event, status=1)
    except Stopped as event:
        _fail(event, status=signals.status)
    except KeyboardInterrupt:
        _fail("Stopped at once; the same command goes on from the newest checkpoint.", status=signals.status)
    folder = f"{storage_path.rstrip('/')}/{name}"
    _print(table_of(result))
    typer.echo(
        f"Finished {result['update']} updates in {result['seconds']:.0f} s of training.\n"
        f"checkpoints    {folder}/checkpoints\n"
        f"sample sheet   {folder}/samples.png (every grid: pyramid.png)\n"
        f"TensorBoard    tensorboard --logdir {folder}/log\n"
        f"more samples   distmgcd sample {folder} --num 64 --out sheet.png"
    )


def _split(settings: list[str] | None) -> tuple[str, list[str]]:
    """The preset or file, digits if none is named, and the key=value changes."""
    settings = settings or []
    if settings and "=" not in settings[0]:
        return settings[0], settings[1:]
    return "digits", settings


@contextmanager
def _writable(out: Path) -> Iterator[None]:
    """Make the folder of a file to be written; a place that cannot be written is the user's mistake."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise UserError(f"--out {out} cannot be written ({error.strerror or error}); choose another place.") from None


def _class_name(found: Any, label: int) -> str:
    return found.classes[label] if found.classes else str(label)


def _print(*items: Any) -> None:
    from rich.console import Console

    for item in items:
        Console(highlight=False).print(item)


def _fail(why: object, *, status: int) -> None:
    typer.echo(f"distmgcd: {why}", err=True)
    sys.exit(status)


if __name__ == "__main__":
    main()
