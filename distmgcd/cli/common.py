"""What the commands share: the application, common options, and how they read and say things."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from distmgcd.errors import UserError

app = typer.Typer(
    help="Multi-grid energy-based generative ConvNets, trained by MCMC on one process or a cluster.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Settings = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[PRESET|FILE.yaml] [key=value ...]",
        help="A preset or a YAML file (default digits), then changes to it.",
    ),
]
Name = Annotated[
    str | None,
    typer.Option(
        help="The run's name; the same command under the same name goes on where it stopped.",
        show_default="the preset's",
    ),
]
StoragePath = Annotated[
    str, typer.Option(help="The folder of all runs: a local path or a URI such as s3://BUCKET/PATH.")
]
RunFolder = Annotated[str, typer.Argument(help="The folder of a run, as `distmgcd train` printed it.")]
Checkpoint = Annotated[
    str, typer.Option(metavar="newest|best|UPDATE", help="Which; the best is so by checkpoint.metric.")
]
Weights = Annotated[Literal["ema", "raw"], typer.Option(help="Averaged over updates, or the last ones.")]
DataOfRun = Annotated[
    str | None,
    typer.Option("--data", metavar="PATH", help="Where the run's images are now.", show_default="its data.path"),
]
Gpu = Annotated[bool | None, typer.Option("--gpu/--cpu", show_default="a GPU where there is one")]
WaitForResources = Annotated[
    bool,
    typer.Option("--wait-for-resources", help="On a cluster without room, wait for nodes instead of giving up."),
]


def split(settings: list[str] | None) -> tuple[str, list[str]]:
    """The preset or file, digits if none is named, and the key=value changes."""
    settings = settings or []
    if settings and "=" not in settings[0]:
        return settings[0], settings[1:]
    return "digits", settings


@contextmanager
def writable(out: Path) -> Iterator[None]:
    """Make the folder of a file to be written; a place that cannot be written is the user's mistake."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise UserError(f"--out {out} cannot be written ({error.strerror or error}); choose another place.") from None


def print_all(*items: Any) -> None:
    from rich.console import Console

    for item in items:
        Console(highlight=False).print(item)


def fail(why: object, *, status: int) -> None:
    typer.echo(f"distmgcd: {why}", err=True)
    sys.exit(status)
