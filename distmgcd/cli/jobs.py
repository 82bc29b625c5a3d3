"""submit and jobs: the same command lines on a cluster."""

import secrets
import shlex
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from distmgcd.cli.common import app, fail, say
from distmgcd.errors import UserError

jobs_app = typer.Typer(help="Jobs of a cluster: list, logs, stop.", no_args_is_help=True)

Address = Annotated[
    str,
    typer.Option(
        envvar="RAY_API_SERVER_ADDRESS", help="Of the cluster's dashboard; best a tunnel's end on this machine."
    ),
]
JobId = Annotated[str, typer.Argument(metavar="JOB|NAME", help="As `distmgcd submit` and `jobs list` print it.")]
HERE = "http://127.0.0.1:8265"


@app.command(context_settings={"allow_interspersed_args": False})
def submit(
    command: Annotated[
        list[str], typer.Argument(metavar="-- train|tune|evaluate ...", help="What to run there, as it would be here.")
    ],
    address: Address = HERE,
    wait: Annotated[bool, typer.Option(help="Show what the job prints, and end with its exit status.")] = True,
    gpus_per_worker: Annotated[
        int | None, typer.Option(min=0, max=1, help="1 is the command's --gpu, 0 its --cpu.")
    ] = None,
    wait_for_resources: Annotated[
        bool, typer.Option("--wait-for-resources", help="The command's own: wait for nodes that are not there yet.")
    ] = False,
    installed: Annotated[
        bool, typer.Option("--installed", help="Send no code: the cluster's own distmgcd runs.")
    ] = False,
    image: Annotated[
        str | None, typer.Option(help="Run in this container image, with its own distmgcd (needs podman on the nodes).")
    ] = None,
    dependencies: Annotated[
        bool, typer.Option("--dependencies", help="Install the pinned dependencies first, once a node: slow.")
    ] = False,
) -> None:
    """Run a command on a Ray cluster: sends the current folder's files and this package, then shows what it prints."""
    from distmgcd.cli.job_command import read_job_command

    folder = Path.cwd()
    job = read_job_command(_with_flags(command, gpus_per_worker, wait_for_resources), folder=folder)
    _check_together(installed=installed, image=image, dependencies=dependencies, files=job.files)
    name = f"{job.arguments[0]}-{job.name}-{secrets.token_hex(3)}"
    with tempfile.TemporaryDirectory(prefix="distmgcd-") as scratch:
        package, extra = None, {"image_uri": image} if image else {}
        if image is None:
            package, extra = _packed(folder, job.files, Path(scratch), code=not installed, dependencies=dependencies)
        from distmgcd.on_ray.jobs.client import Jobs

        cluster, since = Jobs(address), time.monotonic()
        sent = cluster.submit(
            # exec: the job is then the process that gets the signal to stop, not a shell around it.
            f"exec {shlex.join(['python', '-m', 'distmgcd.cli', *job.arguments])}",
            job=name,
            package=package,
            runtime_env=extra,
            metadata=job.metadata,
        )
        if job.data_path and Path(job.data_path).exists():
            say(f"data.path {job.data_path} is read where the job runs; what lies there on this machine stays here.")
        typer.echo(f"Job {name} is submitted ({_in_words(package, sent)}, {time.monotonic() - since:.1f} s).")
    if wait:
        _follow(cluster, name)
    else:
        typer.echo(_ways_on(name))


@jobs_app.command("list")
def list_jobs(address: Address = HERE) -> None:
    """The jobs of a cluster, the newest first."""
    from distmgcd.cli.terminal.run_display import lines_of_jobs
    from distmgcd.on_ray.jobs.client import Jobs

    found = Jobs(address).jobs()
    for line in lines_of_jobs(found) if found else [f"There are no jobs at {address}."]:
        typer.echo(line)


@jobs_app.command("logs")
def logs(
    job: JobId,
    address: Address = HERE,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until it ends, with its exit status.")] = False,
) -> None:
    """What a job has printed."""
    from distmgcd.on_ray.jobs.client import Jobs

    cluster = Jobs(address)
    job = cluster.find(job)
    if follow:
        _follow(cluster, job)
    else:
        typer.echo(cluster.logs(job), nl=False)


@jobs_app.command("stop")
def stop(job: JobId, address: Address = HERE) -> None:
    """Ask a job to stop: a run finishes its update and saves, and the same command goes on from there."""
    from distmgcd.on_ray.jobs.client import Jobs

    cluster = Jobs(address)
    job = cluster.find(job)
    asked = cluster.stop(job)
    typer.echo(f"Job {job} is asked to stop; it saves first." if asked else f"Job {job} had ended already.")


app.add_typer(jobs_app, name="jobs")


def _follow(cluster: Any, job: str) -> None:
    """Show what a job prints and end with its status. Ctrl-C leaves it, or stops it if a person says so."""
    try:
        _pass_on(cluster, job)
    except KeyboardInterrupt:
        if not _wants_to_stop(job):
            fail(f"Job {job} goes on. {_ways_on(job)}", status=130)
        cluster.stop(job)
        _pass_on(cluster, job)
    status = cluster.exit_status(job)
    if status:
        found = cluster.details(job)
        why = "" if found.driver_exit_code is not None else f": {' '.join((found.message or '').split())[:300]}"
        fail(f"Job {job} {found.status.lower()} with status {status}{why}.".replace("..", "."), status=status)


def _pass_on(cluster: Any, job: str) -> None:
    cluster.follow(job, lambda text: typer.echo(text, nl=False))


def _wants_to_stop(job: str) -> bool:
    """Ask; who cannot be asked wants to leave it."""
    if not sys.stdin.isatty():
        return False
    try:
        return typer.confirm(f"\nStop job {job}? (No leaves it running.)", default=False)
    except (KeyboardInterrupt, typer.Abort):
        return False


def _ways_on(job: str) -> str:
    return f"See it with `distmgcd jobs logs -f {job}`, stop it with `distmgcd jobs stop {job}`."


def _with_flags(command: list[str], gpus_per_worker: int | None, wait_for_resources: bool) -> list[str]:
    """The options of submit that are flags of the command."""
    flags = [] if gpus_per_worker is None else ["--gpu" if gpus_per_worker else "--cpu"]
    flags += ["--wait-for-resources"] if wait_for_resources else []
    return [*command, *(flag for flag in flags if flag not in command)]


def _check_together(*, installed: bool, image: str | None, dependencies: bool, files: tuple[str, ...]) -> None:
    if image and (installed or dependencies):
        raise UserError(f"--image {image} brings its own distmgcd and dependencies; leave the other option out.")
    if image and files:
        raise UserError(
            f"--image {image} goes without files of this machine, for Ray sends none into an image, but the command "
            f"names {files[0]}; put it into the image, or give a preset with key=value changes."
        )


def _packed(
    folder: Path, named: tuple[str, ...], scratch: Path, *, code: bool, dependencies: bool
) -> tuple[Path | None, dict[str, Any]]:
    """The package to send, if any, and what the cluster is to install beside it."""
    from distmgcd.on_ray.jobs.pack import files_to_send, pip_environment, write_package

    files = files_to_send(folder, named, with_package=code)
    environment = pip_environment(files) if dependencies else {}
    if files:
        write_package(files, scratch / "package.zip")
    return (scratch / "package.zip" if files else None), environment


def _in_words(package: Path | None, sent: int | None) -> str:
    if package is None:
        return "nothing sent"
    size = f"{package.stat().st_size:,} bytes"
    return f"{size} sent" if sent is not None else f"its {size} were there already"
