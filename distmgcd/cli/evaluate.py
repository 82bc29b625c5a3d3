"""evaluate: what a trained run is worth, in numbers with their protocol."""

from typing import Annotated

import typer

from distmgcd.cli.common import Checkpoint, DataOfRun, Gpu, ResultsFolder, RunFolder, Weights, app, fail, print_all, say


@app.command()
def evaluate(
    run: RunFolder,
    metrics: Annotated[
        str | None, typer.Option(metavar="swd,fd,...", help="Some of swd, fd, kd, is, pr, nn, diversity, chains.")
    ] = None,
    num: Annotated[
        int | None, typer.Option(help="Samples, and images.", show_default="10000, or as many as are held out")
    ] = None,
    steps: Annotated[str, typer.Option(help="Where long chains are looked at; K is the config's num_steps.")] = (
        "K,2K,10K"
    ),
    features: Annotated[
        str, typer.Option(metavar="NAME|PATH", help="efficientnet-lite0, inception, random, pixels, or a weight file.")
    ] = "efficientnet-lite0",
    download: Annotated[bool, typer.Option("--download", help="Fetch inception's weights if they are absent.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the samples.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes that share the work; 1 is this one.")] = 1,
    checkpoint: Checkpoint = "end",
    weights: Weights = "ema",
    data: DataOfRun = None,
    out: ResultsFolder = None,
    gpu: Gpu = None,
) -> None:
    """Measure a trained run: distances, precision and recall, nearest neighbours, diversity, long chains."""
    from distmgcd.evaluation.request import Request, parse_metrics, parse_steps

    request = Request(
        metrics=parse_metrics(metrics),
        num=num,
        multiples=parse_steps(steps),
        features=features,
        download=download,
        seed=seed,
        checkpoint=checkpoint,
        weights=weights,
        data=data,
        out=out,
    )
    say(f"Measuring {run}. Loading torch and the images ...")
    from distmgcd.evaluation.processes import evaluate_run
    from distmgcd.report.evaluation_tables import line_of_file, tables_of, what_is_new

    try:
        record = evaluate_run(run, request, num_workers=workers, use_gpu=gpu, tell=say)
    except KeyboardInterrupt:
        fail("Stopped. Nothing was written.", status=130)
    print_all(*tables_of(what_is_new(record)))
    for sheet in record["sheets"]:
        typer.echo(f"pictures       {sheet}")
    typer.echo(line_of_file(record))
