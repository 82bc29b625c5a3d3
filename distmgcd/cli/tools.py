"""config and bench: what a config says, and how fast this machine is with it."""

from pathlib import Path
from typing import Annotated

import typer

from distmgcd.cli.common import Gpu, Settings, app, print_all, split


@app.command()
def config(settings: Settings = None) -> None:
    """Print the whole config of a preset or file, changes applied."""
    from distmgcd.config import load_config, to_yaml

    typer.echo(to_yaml(load_config(*split(settings))), nl=False)


@app.command()
def bench(
    settings: Settings = None,
    workers: Annotated[int, typer.Option(min=0, help="Also time the loop under Ray Train with so many workers.")] = 0,
    scaling: Annotated[
        bool, typer.Option("--scaling", help="Time only 1 worker against --workers, under torchrun and under Ray.")
    ] = False,
    json_path: Annotated[Path | None, typer.Option("--json", help="Also write the figures to this file.")] = None,
    gpu: Gpu = None,
) -> None:
    """Time the chains and the update loop, against a bare textbook loop and this machine's matrix product."""
    import json

    from distmgcd.config import load_config

    config = load_config(*split(settings))
    if scaling:
        from distmgcd.bench.scaling import bench_scaling, table_of_scaling

        figures = bench_scaling(config, num_workers=workers or 2, use_gpu=bool(gpu))
        print_all(*table_of_scaling(figures))
    else:
        from distmgcd.bench.speed import bench as run_bench
        from distmgcd.bench.speed import table_of

        figures = run_bench(config, use_gpu=gpu, num_workers=workers)
        print_all(*table_of(figures))
    if json_path:
        json_path.write_text(json.dumps(figures, indent=1))
