"""compare: methods side by side, at equal cost."""

from typing import Annotated

import typer

from distmgcd.cli.common import Gpu, app, fail, say, split


@app.command()
def compare(
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PLAN|FILE.yaml] [key=value ...]", help="A plan (default digits), then changes to its base config."
        ),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(metavar="NAME,NAME", help="Run only these methods; other commands may run others meanwhile."),
    ] = None,
    gpu: Gpu = None,
    name: Annotated[str | None, typer.Option(help="The comparison's name.", show_default="the plan's")] = None,
    storage_path: Annotated[str, typer.Option(help="The folder of all comparisons.")] = "comparisons",
) -> None:
    """Compare methods: tune each as hard, train each at the same cost, measure all alike; write a table and a sheet."""
    from distmgcd.comparison.read_plan import read_plan

    plan = read_plan(*split(settings))
    from distmgcd.cli.terminal.run_display import Display
    from distmgcd.comparison.run_comparison import compare as run_plan
    from distmgcd.comparison.score_run import Runs
    from distmgcd.runs.run_folder import check_place
    from distmgcd.runs.store import Store
    from distmgcd.workers.stop import Stopped, StopSignals

    check_place(storage_path, plan.name if name is None else name)
    folder = f"{storage_path.rstrip('/')}/{name or plan.name}"
    for line in (plan.cost_line, *plan.warnings):
        say(line)
    signals, store = StopSignals(), Store(folder)
    try:
        with signals, Display() as show:
            runs = Runs(f"{folder}/runs", use_gpu=gpu, show=show, stop=signals)
            results = run_plan(plan, runs, store, only=only.split(",") if only else None, show=say)
    except (Stopped, KeyboardInterrupt):
        fail("Stopped; the same command goes on where it was.", status=signals.status)
    typer.echo(store.read("table.md").decode())
    files = ["results.json", "table.md", *(["samples.png"] if results["methods"] else [])]
    typer.echo("\n".join(store.path(file) for file in files))
