"""Errors whose text is for the user: a mistake of the user, and a run that failed."""


class UserError(Exception):
    """A mistake the user can mend.

    Its text is one sentence that names the setting, the value, the rule and the way out. The command
    line prints it and exits with status 2; nothing has been written and no traceback is shown.
    """


class RunFailed(Exception):
    """Workers failed again and again without getting to a new checkpoint, or Ray could not start or keep them.

    Its text says how and what to do, with the last traceback of a worker if there is one. The command line prints it
    and exits with status 1; the same command goes on from the newest checkpoint, if there is one.
    """

    def __init__(self, what: str, *, way_on: str = "", traceback: str = ""):
        """what: happened, a sentence or two. way_on: what to do about it, another one."""
        super().__init__(" ".join(filter(None, (what, way_on))) + (f"\n{traceback}" if traceback else ""))
        lines = traceback.strip().splitlines()
        self.reason = lines[-1] if lines else what  # in a line, for a table
