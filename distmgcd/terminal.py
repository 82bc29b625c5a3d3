"""Text for whoever reads it: wrapped between words on a terminal; in a file or a pipe one record is one line."""

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


def _filled(line: str, width: int) -> str:
    if len(line) <= width:
        return line
    whole = re.sub("`[^`]+`", lambda command: command[0].replace(" ", _SPACE_OF_COMMAND), line)
    filled = textwrap.fill(whole, width, break_long_words=False, break_on_hyphens=False)
    return filled.replace(_SPACE_OF_COMMAND, " ")
