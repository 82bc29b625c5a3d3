"""config: what a config says, and what a setting means."""

from typing import TYPE_CHECKING, Annotated

import typer

from distmgcd.cli.common import Settings, app, split
from distmgcd.errors import UserError

if TYPE_CHECKING:
    from distmgcd.config import Config


@app.command()
def config(
    settings: Settings = None,
    explain: Annotated[
        str | None,
        typer.Option(
            metavar="SETTING|SECTION|PRESET",
            help="Instead, say what it means and takes, such as langevin.step_size; or what a preset or file says of "
            "itself, and what it costs.",
        ),
    ] = None,
) -> None:
    """Print the whole config of a preset or file, changes applied, below what it says of itself and what it costs; or
    explain a setting."""
    from distmgcd.config import load_config, preset_names, to_yaml

    if explain and (explain in preset_names() or explain.endswith((".yaml", ".yml"))):
        if settings:
            raise UserError(
                f"--explain {explain} takes no settings; `distmgcd config {explain} ...` shows them applied."
            )
        typer.echo("\n".join(_head(explain, load_config(explain), changed=False)))
        return
    source, changes = split(settings)
    found = load_config(source, changes)
    if explain is None:
        typer.echo(
            "".join(f"# {line}".rstrip() + "\n" for line in _head(source, found, changed=bool(changes))), nl=False
        )
        typer.echo(to_yaml(found), nl=False)
        return
    from distmgcd.config.explain import explain as explained

    typer.echo(explained(explain, found if settings else None))


def _head(source: str, config: "Config", *, changed: bool) -> list[str]:
    """What a preset or file says of itself at its head, and what a run of the config costs, line by line."""
    from distmgcd.config import comment_of
    from distmgcd.config.cost import cost_line

    own = comment_of(source)
    before = [f"{source}, without the changes given here:"] if own and changed else []
    rate = "How long that takes on a machine, a run says after its first updates."
    return [*before, *own, cost_line(config), rate]
