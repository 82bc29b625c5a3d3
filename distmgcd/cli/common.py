"""What the commands share: the application, common options, and how they read and say things."""

import platform
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer
import typer.core

from distmgcd import __version__
from distmgcd.errors import UserError
from distmgcd.terminal import width_of, wrapped


class Group(typer.core.TyperGroup):
    """The commands; an option that there is not is met with what is given in its place, where that is known."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            if (found := _in_place_of(error)) is None:
                raise
        raise UserError(found)


def _in_place_of(error: Any) -> str | None:
    """A sentence about an unknown option (NoSuchOption of click, or of the copy of it that typer brings)."""
    if type(error).__name__ != "NoSuchOption" or error.ctx is None:
        return None
    from distmgcd.config.paths import called, instead_of

    option, name, params = error.option_name, error.option_name.lstrip("-"), error.ctx.command.params
    if (name, error.ctx.info_name) == ("resume", "features"):
        return f"features has no option {option}: the same command goes on where it stopped."
    if "settings" not in {param.name for param in params}:
        return None
    known = {flag for param in params for flag in (*param.opts, *param.secondary_opts)}
    if (instead := instead_of(name)) and known.issuperset(re.findall(r"--[\w-]+", instead)):
        return f"{error.ctx.info_name} has no option {option}: {instead}."
    if setting := called(name):
        return f"{error.ctx.info_name} has no option {option}; settings have no dashes: give {setting}=VALUE."
    return None


app = typer.Typer(
    cls=Group,
    help="Multi-grid energy-based generative ConvNets, trained by MCMC on one process or a cluster.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _show_version(asked: bool) -> None:
    if asked:
        found = ", ".join(f"{name} {version(name)}" for name in ("torch", "ray"))
        typer.echo(f"distmgcd {__version__} (Python {platform.python_version()}, {found})")
        raise typer.Exit


@app.callback()
def _options_of_all(
    _: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the versions and leave.")
    ] = False,
) -> None:
    pass


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
RunFolder = Annotated[str, typer.Argument(help="The folder of a run, or pretrained:NAME.")]
Checkpoint = Annotated[
    str,
    typer.Option(
        metavar="end|newest|best|UPDATE",
        help="Which; end: what the run ended with (checkpoint.end_with). The best is so by checkpoint.metric.",
    ),
]
Weights = Annotated[Literal["ema", "raw"], typer.Option(help="Averaged over updates, or the last ones.")]
DataOfRun = Annotated[
    str | None,
    typer.Option("--data", metavar="PATH", help="Where the run's images are now.", show_default="its data.path"),
]
ResultsFolder = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER", help="The folder for results.", show_default="RUN; of pretrained:NAME runs/pretrained-NAME"
    ),
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


def say(text: str, *, err: bool = False) -> None:
    """Print a text: on a terminal wrapped between words, elsewhere as it is."""
    typer.echo(wrapped(text, width_of(sys.stderr if err else sys.stdout)), err=err)


def print_all(*items: Any) -> None:
    """Tables, and sentences between them."""
    from rich.console import Console

    for item in items:
        if isinstance(item, str):
            say(item)
        else:
            Console(highlight=False).print(item)


def fail(why: object, *, status: int) -> NoReturn:
    say(f"distmgcd: {why}", err=True)
    sys.exit(status)
