"""bench: how fast this machine is with a config, beside what it could be and what others are."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distmgcd.cli.common import Gpu, Settings, app, print_all, split
from distmgcd.errors import UserError

if TYPE_CHECKING:
    from distmgcd.config import Config

_INSTEAD = "Instead of all else"


def _mode(name: str, help: str) -> Any:
    return typer.Option(f"--{name}", help=help, rich_help_panel=_INSTEAD)


@app.command()
def bench(
    settings: Settings = None,
    peers: Annotated[
        bool, _mode("peers", "Time the chains beside other libraries' samplers, where installed.")
    ] = False,
    profile: Annotated[bool, _mode("profile", "Show where the time of an update goes.")] = False,
    scaling: Annotated[
        bool, _mode("scaling", "Time the loop with 1 and --workers workers, under torchrun and Ray.")
    ] = False,
    workers: Annotated[
        str | None, typer.Option(metavar="N|N,N,...", help="Also time the loop under Ray Train with so many workers.")
    ] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Also write the figures to this file.")] = None,
    gpu: Gpu = None,
) -> None:
    """Time the chains and the update loop, against a bare textbook loop and this machine's matrix product."""
    modes = {"peers": peers, "profile": profile, "scaling": scaling}
    mode, counts = _one_of(modes), _parse_counts(workers)
    if mode in ("peers", "profile") and counts:
        raise UserError(f"--workers is not for --{mode}, which runs in this process; leave it out.")

    from distmgcd.bench import tables
    from distmgcd.config import load_config

    config = load_config(*split(settings))
    figures = {"command": mode, **_measure(config, mode, counts, gpu=gpu)}
    print_all(*getattr(tables, f"of_{mode}")(figures))
    if json_path:
        json_path.write_text(json.dumps(figures, indent=1, allow_nan=False))


def _measure(config: "Config", mode: str, counts: list[int], *, gpu: bool | None) -> dict[str, Any]:
    if mode == "profile":
        from distmgcd.bench.profile import bench_profile

        return bench_profile(config, use_gpu=gpu)
    if mode == "scaling":
        from distmgcd.bench.scaling import bench_scaling

        return bench_scaling(config, worker_counts=counts or [2], use_gpu=bool(gpu))
    if mode == "peers":
        from distmgcd.bench.speed import bench_peers

        return bench_peers(config, use_gpu=gpu)
    from distmgcd.bench.speed import bench

    return bench(config, use_gpu=gpu, num_workers=counts[-1] if counts else 0)


def _one_of(modes: dict[str, bool]) -> str:
    """Raises UserError for two."""
    given = [mode for mode, asked in modes.items() if asked]
    if len(given) > 1:
        raise UserError(f"--{given[0]} and --{given[1]} are two benches; run one after the other.")
    return given[0] if given else "speed"


def _parse_counts(text: str | None) -> list[int]:
    """ "1,2,4" is [1, 2, 4]. Raises UserError."""
    counts = [] if text is None else text.split(",")
    if not all(count.strip().isdecimal() and int(count) > 0 for count in counts):
        raise UserError(
            f"--workers must be numbers from 1 up such as 4 or 1,2,4, but is {text!r}; leave it out for none."
        )
    return sorted({int(count) for count in counts})
