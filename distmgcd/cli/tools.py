"""config: what a config says, and what a setting means."""

from typing import Annotated

import typer

from distmgcd.cli.common import Settings, app, split


@app.command()
def config(
    settings: Settings = None,
    explain: Annotated[
        str | None,
        typer.Option(
            metavar="SETTING|SECTION", help="Instead, say what it means and takes, such as langevin.step_size."
        ),
    ] = None,
) -> None:
    """Print the whole config of a preset or file, changes applied, or explain a setting."""
    from distmgcd.config import load_config, to_yaml

    found = load_config(*split(settings))
    if explain is None:
        typer.echo(to_yaml(found), nl=False)
        return
    from distmgcd.config.explain import explain as explained

    typer.echo(explained(explain, found if settings else None))
