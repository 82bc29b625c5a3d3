"""features and ood: what the networks of a run have learned to see, by labels and by energy."""

from typing import Annotated, Literal

import typer

from distmgcd.cli.common import Checkpoint, DataOfRun, Gpu, ResultsFolder, RunFolder, Weights, app, fail, print_all, say


@app.command()
def features(
    run: RunFolder,
    labels: Annotated[
        str, typer.Option(metavar="N,N,...", help="How many training images lend their labels.")
    ] = "1000,2000,4000",
    subsets: Annotated[int, typer.Option(min=1, help="Random label subsets of each size.")] = 10,
    against: Annotated[
        list[str] | None,
        typer.Option(metavar="RUN", help="Another run on the same images; may be given several times."),
    ] = None,
    random: Annotated[int, typer.Option(min=0, help="Untrained networks of the same shape.")] = 3,
    classifiers: Annotated[str, typer.Option(metavar="svm,convnet", help="Either or both.")] = "svm,convnet",
    layers: Annotated[Literal["last", "all"], typer.Option(help="Convolutions of every grid.")] = "last",
    cells: Annotated[int, typer.Option(min=1, help="Maps are max-pooled to so many cells a side.")] = 4,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of subsets, folds and classifiers.")] = 0,
    checkpoint: Checkpoint = "end",
    weights: Weights = "ema",
    data: DataOfRun = None,
    out: ResultsFolder = None,
    gpu: Gpu = None,
) -> None:
    """Classify by a run's features and few labels: error beside raw pixels, random networks and other runs."""
    say(f"Classifying by the features of {run}. Loading torch and the images ...")
    from distmgcd.evaluation.classification.experiment import Protocol, classify_run, parse_classifiers, parse_labels
    from distmgcd.report.classification_tables import tables_of_errors

    protocol = Protocol(
        labels=parse_labels(labels),
        num_subsets=subsets,
        seed=seed,
        cells=cells,
        layers=layers,
        num_random=random,
        classifiers=parse_classifiers(classifiers),
        checkpoint=checkpoint,
        weights=weights,
        data=data,
        out=out,
    )
    try:
        record = classify_run(run, protocol, against=against or (), use_gpu=gpu, tell=say)
    except KeyboardInterrupt:
        fail("Stopped; the same command goes on where it was.", status=130)
    print_all(*tables_of_errors(record))
    typer.echo(f"numbers        {record['file']}")


@app.command()
def ood(
    run: RunFolder,
    others: Annotated[
        list[str] | None,
        typer.Argument(metavar="[DATA]...", help="Other images: whatever data.path takes, of as many channels."),
    ] = None,
    split: Annotated[str, typer.Option(help="Of the other images; `all` takes every one.")] = "test",
    num: Annotated[int, typer.Option(help="The most images of each set.")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="Of the choice of images, and of made ones.")] = 0,
    checkpoint: Checkpoint = "end",
    weights: Weights = "ema",
    data: DataOfRun = None,
    out: ResultsFolder = None,
    gpu: Gpu = None,
) -> None:
    """How well the energy of a run tells other images, noise and constant ones from held-out images (AUROC)."""
    say(f"Energies of {run}. Loading torch and the images ...")
    from distmgcd.evaluation.ood import tell_apart
    from distmgcd.report.classification_tables import table_of_ood

    record = tell_apart(
        run,
        others or (),
        split=split,
        num=num,
        seed=seed,
        checkpoint=checkpoint,
        weights=weights,
        data=data,
        out=out,
        use_gpu=gpu,
    )
    print_all(*table_of_ood(record))
    typer.echo(f"numbers        {record['file']}")
