"""Warnings about something that is not available here, and what is done instead."""

import logging
from functools import cache

_logger = logging.getLogger(__name__)


@cache
def warn_once(text: str) -> None:
    """Log a warning, once per process."""
    _logger.warning(text)


def first_line(error: Exception) -> str:
    """The first line of an error's message, which may be a page long, without a full stop."""
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
