"""The options of `distmgcd debug --replay`, and which of them go together. Imports nothing that makes --help slow."""

from pathlib import Path
from typing import Annotated, Any

import typer

from distmgcd.errors import UserError

_PANEL = "Replay"

ReplayOf = Annotated[
    str | None,
    typer.Option(metavar="RUN", help="Walk chains of one update of this run again.", rich_help_panel=_PANEL),
]
Update = Annotated[
    int | None, typer.Option(help="Which update, as the log and messages count.", rich_help_panel=_PANEL)
]
Images = Annotated[
    str | None,
    typer.Option(
        metavar="13,18|all",
        help="Which chains, by their images' places in the training set. (default: the 4 that drift most)",
        rich_help_panel=_PANEL,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        help="The PNG to write, and a .json of numbers beside it. (default: replay.png)", rich_help_panel=_PANEL
    ),
]
Alone = Annotated[
    bool,
    typer.Option(
        "--alone",
        help="Walk only these chains, not the whole batch: faster, equal up to rounding.",
        rich_help_panel=_PANEL,
    ),
]
RateScale = Annotated[
    str | None,
    typer.Option(
        metavar="0.5|1,1,0.5",
        help="Of the learning rates, or of each, to see a later try of a run that went back. (default: the first try)",
        rich_help_panel=_PANEL,
    ),
]
DataPath = Annotated[
    str | None,
    typer.Option("--data", metavar="PATH", help="Where the run's images are on this machine.", rich_help_panel=_PANEL),
]


def check_options(run: str | None, what: dict[str, Any], training: list[str]) -> None:
    """Raise UserError where options of a replay (by name) and of training (as written) do not go together."""
    given = [f"--{name.replace('_', '-')}" for name, value in what.items() if value not in (None, False)]
    if run is None and given:
        raise UserError(f"{given[0]} says what to replay, but --replay names no run; give --replay RUN, too.")
    if run is not None and training:
        raise UserError(f"--replay {run} takes its whole config from that run; leave {training[0]} out.")
    if run is not None and what["update"] is None:
        raise UserError(
            f"--replay {run} needs to know whose chains to walk; give --update with a number that its log shows."
        )
    rate_scale_of(what["rate_scale"])
    out = what["out"]
    if out is not None and out.suffix != ".png":
        raise UserError(f"--out must end in .png, but is {str(out)!r}; try {out.with_suffix('.png')}.")


def rate_scale_of(text: str | None) -> float | tuple[float, ...] | None:
    """What --rate-scale says: of all grids, or of each. Raises UserError."""
    if text is None:
        return None
    try:
        scales = tuple(float(part) for part in text.split(","))
    except ValueError:
        scales = ()
    if not scales or not all(0 <= scale < float("inf") for scale in scales) or not any(scales):
        raise UserError(
            f"--rate-scale must be a number above 0, or one of 0 or more per grid with commas between them, but is "
            f"{text!r}; a run's messages name it."
        )
    return scales[0] if len(scales) == 1 else scales
