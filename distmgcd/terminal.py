"""Text for the terminal is wrapped between words; in a file or a pipe one record is one line."""

import re
import shutil
import textwrap
from typing import TextIO

_SPACE_OF_COMMAND = "\N{NO-BREAK SPACE}"  # stands for a space where a line must not be broken


def width_of(stream: TextIO) -> int | None:
    """Characters of a line of the terminal that a stream writes to; None where it writes to a file or a pipe."""
    return shutil.get_terminal_size().columns if stream.isatty() else None


def wrapped(text: str, width: int | None) -> str:
    """Every line of a text in lines of at most so many characters; None leaves it as it is.

    Neither words nor commands in backticks are broken, so that a path or a command can be copied whole.
    """
    return text if width is None else "\n".join(_filled(line, width) for line in text.split("\n"))


def time_in_words(seconds: float) -> str:
    """ "1:34" (minutes), "3 h 07 min", "2 d 3 h"."""
    minutes, left = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{left:02d}"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"


def hours_in_words(seconds: float) -> str:
    """For a sentence, in minutes: "1 min", "59 min", "2 h 10 min", "2 d 3 h"."""
    minutes = max(1, round(seconds / 60))
    return f"{minutes} min" if minutes < 60 else time_in_words(60 * minutes)


def _filled(line: str, width: int) -> str:
    if len(line) <= width:
        return line
    whole = re.sub("`[^`]+`", lambda command: command[0].replace(" ", _SPACE_OF_COMMAND), line)
    filled = textwrap.fill(whole, width, break_long_words=False, break_on_hyphens=False)
    return filled.replace(_SPACE_OF_COMMAND, " ")
