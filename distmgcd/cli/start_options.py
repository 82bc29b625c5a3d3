"""The options by which a new run starts from another one. Imports nothing that makes --help slow."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from distmgcd.errors import UserError

if TYPE_CHECKING:
    from distmgcd.runs.run_folder import StartFrom

_PANEL = "Start from another run"

From = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="RUN",
        help="Begin a new run with the weights of this one; all settings but grids and networks may differ.",
        rich_help_panel=_PANEL,
    ),
]
FromCheckpoint = Annotated[
    str | None,
    typer.Option(
        metavar="end|newest|best|UPDATE", help="Which checkpoint of it. (default: end)", rich_help_panel=_PANEL
    ),
]
FromWeights = Annotated[
    Literal["ema", "raw"] | None,
    typer.Option(help="Averaged over updates, or the last ones. (default: ema)", rich_help_panel=_PANEL),
]


def start_from(run: str | None, checkpoint: str | None, weights: Literal["ema", "raw"] | None) -> "StartFrom | None":
    """Raises UserError where options say how to start from a run that none names."""
    if run is None:
        for option, value in (("--from-checkpoint", checkpoint), ("--from-weights", weights)):
            if value is not None:
                raise UserError(
                    f"{option} says how to start from a run, but --from names no run; give --from RUN, too."
                )
        return None
    from distmgcd.runs.run_folder import StartFrom

    return StartFrom(run, checkpoint or "end", weights or "ema")
