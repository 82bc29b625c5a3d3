"""evaluate, inpaint, features, ood: trained runs measured; every number with its protocol."""

from typing import Annotated, Literal

import typer

from distmgcd.cli.common import Checkpoint, DataOfRun, Gpu, ResultsFolder, RunFolder, Weights, app, fail, print_all, say
from distmgcd.errors import UserError


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
    from distmgcd.evaluation.subject import Request, parse_metrics, parse_steps

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
    from distmgcd.evaluation.evaluate_run import evaluate_run
    from distmgcd.report.evaluation_tables import line_of_file, tables_of, what_is_new

    try:
        record = evaluate_run(run, request, num_workers=workers, use_gpu=gpu, show=say)
    except KeyboardInterrupt:
        fail("Stopped. Nothing was written.", status=130)
    print_all(*tables_of(what_is_new(record)))
    for sheet in record["sheets"]:
        typer.echo(f"pictures       {sheet}")
    typer.echo(line_of_file(record))


@app.command()
def inpaint(
    run: RunFolder,
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[IMAGES]", help="Pictures to fill: a folder, a Parquet file, ...; else those held out."
        ),
    ] = None,
    mask: Annotated[
        list[str] | None,
        typer.Option(
            metavar="square|doodle|pepper|FILE",
            help="What is hidden; give it again for several. All three if left out.",
        ),
    ] = None,
    num: Annotated[int | None, typer.Option(help="How many; 1000, or all of fewer, if left out.")] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(metavar="RUN", help="Another run that fills the same; may be given several times."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of masks and chains.")] = 0,
    checkpoint: Checkpoint = "end",
    weights: Weights = "ema",
    data: DataOfRun = None,
    out: ResultsFolder = None,
    gpu: Gpu = None,
) -> None:
    """Hide a part of images and fill it by chains that move only that; error and PSNR beside simple fills."""
    if images and len(images) > 1:
        raise UserError(
            f"IMAGES must be one path, but {len(images)} are given; put them into a folder and give that, or give a "
            "glob in quotes, such as 'photos/*.png'."
        )
    say(f"Filling hidden parts of images by {run}. Loading torch and the images ...")
    from distmgcd.evaluation.inpainting.inpaint_run import InpaintRequest, inpaint_run
    from distmgcd.report.evaluation_tables import line_of_file, table_of_inpainting, what_is_new

    kinds = {} if mask is None else {"masks": tuple(dict.fromkeys(mask))}
    request = InpaintRequest(
        images=images[0] if images else None,
        num=num,
        against=tuple(against or ()),
        seed=seed,
        checkpoint=checkpoint,
        weights=weights,
        data=data,
        out=out,
        **kinds,
    )
    try:
        record = inpaint_run(run, request, use_gpu=gpu, show=say)
    except KeyboardInterrupt:
        fail("Stopped. Nothing was written.", status=130)
    print_all(table_of_inpainting(what_is_new(record)))
    for sheet in record["sheets"]:
        typer.echo(f"pictures       {sheet}")
    typer.echo(line_of_file(record))


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
    from distmgcd.evaluation.classification.classify_run import Protocol, classify_run, parse_classifiers, parse_labels
    from distmgcd.report.evaluation_tables import tables_of_errors

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
        record = classify_run(run, protocol, against=against or (), use_gpu=gpu, show=say)
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
    from distmgcd.report.evaluation_tables import table_of_ood

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
