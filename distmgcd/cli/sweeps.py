"""tune and report: searches of settings."""

from typing import Annotated

import typer

from distmgcd.cli.common import Gpu, WaitForResources, app, fail, print_all, say
from distmgcd.errors import UserError


@app.command()
def tune(
    settings: Annotated[
        list[str],
        typer.Argument(
            metavar="SWEEP|FILE.yaml [key=value ...]", help="A sweep, such as smoke, then changes to its base config."
        ),
    ],
    trials: Annotated[int | None, typer.Option(min=1, help="How many.", show_default="the file's")] = None,
    concurrent: Annotated[int | None, typer.Option(help="Trials at a time.", show_default="as many as fit")] = None,
    workers_per_trial: Annotated[
        int | None,
        typer.Option(help="Ray Train workers of a trial; 0: it is one process.", show_default="the file's, or else 0"),
    ] = None,
    gpu: Gpu = None,
    name: Annotated[str | None, typer.Option(help="The sweep's name.", show_default="the file's")] = None,
    storage_path: Annotated[str, typer.Option(help="The folder of all sweeps: a local path or a URI.")] = "sweeps",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the sweep of this name.")] = False,
    wait_for_resources: WaitForResources = False,
) -> None:
    """Search settings with Ray Tune: many trials, each a run of its own; ends with a file that trains the best."""
    from distmgcd.config.cost import in_words, run_cost
    from distmgcd.sweep.file import read_sweep

    if "=" in settings[0]:
        raise UserError(
            f"The first argument must be a sweep or its file, but is {settings[0]!r}; try `distmgcd tune smoke`."
        )
    sweep = read_sweep(settings[0], settings[1:], num_trials=trials)
    folder = f"{storage_path.rstrip('/')}/{name or sweep.name}"
    cost = in_words(run_cost(sweep.config_of(sweep.point(1))))
    say(
        f"Sweep {folder}: {sweep.num_trials} trials of at most {sweep.budget.updates} updates, {cost} multiply-adds "
        "for the settings of the first, on Ray. Loading torch and the images ..."
    )
    from distmgcd.cli.terminal.sweep_display import SweepDisplay, lines_of_result
    from distmgcd.launch import start_sweep
    from distmgcd.sweep.sweep_state import SweepStopped
    from distmgcd.workers.stop import StopSignals

    signals = StopSignals()
    asked = {
        "concurrent": concurrent,
        "workers_per_trial": workers_per_trial,
        "use_gpu": gpu,
        "resume": resume,
        "wait_for_resources": wait_for_resources,
    }
    try:
        with signals:
            show = SweepDisplay(sweep.num_trials, objective=sweep.objective)
            start_sweep.tune(sweep, storage_path=storage_path, name=name, show=show, stop=signals, **asked)
    except SweepStopped as event:
        fail(event, status=signals.status)
    except KeyboardInterrupt:
        fail(
            "Stopped at once. The same command with --resume goes on: ended trials are kept, the others go on from "
            "their newest checkpoints.",
            status=signals.status,
        )
    for line in lines_of_result(*start_sweep.outcome(sweep, folder), folder):
        (say if line.endswith(".") else typer.echo)(line)  # sentences are wrapped, commands stay whole


@app.command()
def report(sweep: Annotated[str, typer.Argument(help="The folder of a sweep, as `distmgcd tune` printed it.")]) -> None:
    """Write report.html, best.yaml and best_samples.png of a sweep anew, and print its best trials."""
    from distmgcd.cli.terminal.sweep_display import lines_of_files, table_of
    from distmgcd.runs.store import Store
    from distmgcd.sweep.write_results import write_report

    store = Store(sweep)
    try:
        results = write_report(store)
    except OSError as error:
        raise UserError(
            f"The report of the sweep {sweep} cannot be written ({error.strerror or error}); free space there, or copy "
            "the folder to where you may write."
        ) from None
    print_all(table_of(results.trials, objective=results.sweep.objective))
    for line in lines_of_files(store):
        typer.echo(line)
