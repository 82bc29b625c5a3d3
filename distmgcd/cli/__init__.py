"""The command line. It imports torch and Ray only inside the commands that need them, so --help is quick."""

# Importing a module adds its commands, in the order of --help.
from distmgcd.cli import training, sweeps, comparing, runs, pretrained, evaluation  # noqa: F401, I001
from distmgcd.cli import jobs, tools, bench, data  # noqa: F401
from distmgcd.cli.common import app, fail
from distmgcd.errors import RunFailed, UserError


def main() -> None:
    """Run the command line; a user's mistake is one sentence and status 2, a run that diverged or failed, status 1."""
    try:
        app()
    except UserError as error:
        fail(error, status=2)
    except RunFailed as failure:
        fail(failure, status=1)
