"""config: what a config says."""

import typer

from distmgcd.cli.common import Settings, app, split


@app.command()
def config(settings: Settings = None) -> None:
    """Print the whole config of a preset or file, changes applied."""
    from distmgcd.config import load_config, to_yaml

    typer.echo(to_yaml(load_config(*split(settings))), nl=False)
