"""What a user can do wrong, told apart from what we did wrong."""


class UserError(Exception):
    """A mistake the user can mend.

    Its text is one sentence that names the setting, the value, the rule and the way out. The command
    line prints it and exits with status 2; nothing has been written and no traceback is shown.
    """
