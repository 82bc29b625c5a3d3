"""inpaint: hide a part of images and have a run fill it."""

from typing import Annotated

import typer

from distmgcd.cli.common import Checkpoint, DataOfRun, Gpu, ResultsFolder, RunFolder, Weights, app, fail, print_all, say
from distmgcd.errors import UserError


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
    from distmgcd.evaluation.inpainting.experiment import InpaintRequest, inpaint_run
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
        record = inpaint_run(run, request, use_gpu=gpu, tell=say)
    except KeyboardInterrupt:
        fail("Stopped. Nothing was written.", status=130)
    print_all(table_of_inpainting(what_is_new(record)))
    for sheet in record["sheets"]:
        typer.echo(f"pictures       {sheet}")
    typer.echo(line_of_file(record))
