"""What the user is told of something that cannot be had here, and what is done instead."""

import logging
from functools import cache

_logger = logging.getLogger(__name__)


@cache
def warn_once(text: str) -> None:
    """Tell the user, once in a process."""
    _logger.warning(text)


def first_line(error: Exception) -> str:
    """Of a message that may be a page long, without a full stop."""
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
