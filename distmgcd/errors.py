"""What a user can do wrong, told apart from what we did wrong."""


class UserError(Exception):
    """A mistake the user can mend.

    Its text is one sentence that names the setting, the value, the rule and the way out. The command
    line prints it and exits with status 2; nothing has been written and no traceback is shown.
    """


class RunFailed(Exception):
    """Workers failed again and again without getting to a new checkpoint, or could not be started.

    Its text says how, with the last traceback of a worker if there is one. The command line prints it and exits with
    status 1; the same command goes on from the newest checkpoint.
    """
