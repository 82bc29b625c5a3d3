"""export and pretrained: trained models as small folders, a user's own and those that come with the package."""

import shlex
from typing import Annotated

import typer

from distmgcd.cli.common import Checkpoint, app, say


@app.command()
def export(
    run: Annotated[str, typer.Argument(help="The folder of a run.")],
    out: Annotated[str, typer.Option(metavar="FOLDER", help="A new folder: a local path or a URI.")],
    checkpoint: Checkpoint = "end",
) -> None:
    """Write a trained model as a small folder to give away: averaged weights in half precision, and a card."""
    say(f"Exporting {run}. Loading torch ...")
    from distmgcd.export.export_run import export_run

    done = export_run(run, out, which=checkpoint, show=say)
    say(f"{done.title}\nWritten to {done.folder} ({done.num_bytes / 1e6:.2f} MB, update {done.update:,}).")
    typer.echo(f"card           {done.folder}/card.md\nsamples        distmgcd sample {shlex.quote(done.folder)}")


@app.command()
def pretrained(
    name: Annotated[str | None, typer.Argument(help="Print the card of this one.", show_default="list all")] = None,
) -> None:
    """List the models that come with the package; every command that reads a run takes pretrained:NAME."""
    from distmgcd.runs.pretrained import PREFIX, names
    from distmgcd.runs.run_folder import CARD_FILE, Run

    if name is not None:
        typer.echo(Run.open(f"{PREFIX}{name.removeprefix(PREFIX)}").store.read(CARD_FILE).decode(), nl=False)
        return
    for known in names():
        say(f"{PREFIX}{Run.open(f'{PREFIX}{known}').title()}")
    say("distmgcd sample pretrained:NAME draws from one; distmgcd pretrained NAME prints its card.")
