"""sample, runs and verify: what one does with runs."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distmgcd.cli.common import Checkpoint, Gpu, RunFolder, app, fail, say, writable
from distmgcd.errors import UserError

if TYPE_CHECKING:
    from distmgcd.config import Config


@app.command()
def sample(
    run: RunFolder,
    num: Annotated[int, typer.Option(min=1, help="How many samples.")] = 64,
    seed: int = 0,
    out: Annotated[Path, typer.Option(help=".png is a sheet; .npz and .parquet hold the pictures as data.")] = Path(
        "samples.png"
    ),
    checkpoint: Checkpoint = "end",
    bank: Annotated[
        bool, typer.Option("--bank", help="Not fresh samples, but where the run's persistent chains ended.")
    ] = False,
    gpu: Gpu = None,
) -> None:
    """Draw fresh samples of a trained run. Sample i depends on the seed and i only."""
    if out.suffix not in (".png", ".npz", ".parquet"):
        raise UserError(
            f"--out must end in .png, .npz or .parquet, but is {str(out)!r}; try {out.with_suffix('.png')}."
        )
    say(f"{'Reading persistent chains' if bank else f'Drawing {num} samples'} of {run} ...")
    from distmgcd.data.importer import write_npz, write_parquet
    from distmgcd.evaluation.pictures.sheet import save_sheet, to_levels
    from distmgcd.models.trained_model import load
    from distmgcd.runs.run_folder import Run
    from distmgcd.workers.collectives import choose_device

    trained = load(run, which=checkpoint, device=choose_device(gpu))
    if title := Run.open(run).title():
        say(title)
    chains = trained.bank if bank else None
    if bank and chains is None:
        raise UserError(
            f"--bank shows persistent chains, but the run {run} has none ({_why_no_bank(trained.config)}); leave it "
            "out for fresh samples."
        )
    images = trained.sample(num, seed=seed) if chains is None else chains[:num]
    with writable(out):
        if out.suffix == ".png":
            save_sheet(images, out)
        else:
            pixels = to_levels(images).transpose(0, 3, 1, 2)
            (write_npz if out.suffix == ".npz" else write_parquet)(pixels, out)
    what = "persistent chains" if bank else "samples"
    say(f"{len(images)} {what} of {run} (update {trained.update}{'' if bank else f', seed {seed}'}): {out}")


def _why_no_bank(config: "Config") -> str:
    kind = config.start.kind
    return "an exported model leaves them out" if kind == "persistent" else f"start.kind={kind}"


@app.command()
def runs(
    path: Annotated[str, typer.Argument(help="Their folder, or that of one run: a local path or a URI.")] = "runs",
) -> None:
    """List the runs under a storage path: state, update, distance, size, when last written."""
    from distmgcd.cli.terminal.run_display import lines_of_runs
    from distmgcd.runs.listing import summaries

    if found := summaries(path):
        typer.echo("\n".join(lines_of_runs(found)))
        return
    inside = (f"{path.rstrip('/')}/{folder}" for folder in ("trials", "runs"))  # of a sweep, and of a comparison
    below = next(
        (f" Those below it: distmgcd runs {shlex.quote(folder)}" for folder in inside if summaries(folder)), ""
    )
    say(f"There are no runs in {path}.{below}")


@app.command()
def verify(run: Annotated[str, typer.Argument(help="The folder of a run.")]) -> None:
    """Check everything a run has written: checksums, and that it loads. Status 1 if something is damaged."""
    from distmgcd.training.verify import verify as look_at

    num_damaged = 0
    for finding in look_at(run):
        num_damaged += finding.damage is not None
        state = "ok" if finding.damage is None else "DAMAGED"
        said = finding.note if finding.damage is None else f"{finding.damage}; {finding.way_out}"
        say(f"{state:<8}{finding.what}{f': {said}' if said else ''}")
    if num_damaged:
        fail(f"{num_damaged} of what {run} holds is damaged; the lines above say what to do.", status=1)
