"""Images that cannot be read: what is remembered of them, and how many are too many."""

from collections.abc import Sequence
from typing import NamedTuple

from distmgcd.errors import UserError

_NUM_SHOWN = 3


class CorruptImage(Exception):
    """One image cannot be decoded; its text is the reason, for a person to read."""


class SkippedRow(NamedTuple):
    """An image left out because it could not be decoded."""

    row: int  # its row number in the source, from 0
    reason: str
    place: str  # for a person: its file, and the row within it

    def __str__(self) -> str:
        return f"{self.place} ({self.reason})"


def check_corrupt_limit(skipped: Sequence[SkippedRow], *, num_rows: int, max_corrupt: float, path: str) -> None:
    """Raise UserError if more than `max_corrupt` (a fraction) of the `num_rows` rows were skipped."""
    if len(skipped) <= max_corrupt * num_rows:
        return
    first = ", ".join(map(str, skipped[:_NUM_SHOWN]))
    more = ", ..." if len(skipped) > _NUM_SHOWN else ""
    raise UserError(
        f"data.max_corrupt allows a fraction of {max_corrupt:g} of the images to be corrupt, but "
        f"{len(skipped)} of {num_rows} in {path!r} are ({len(skipped) / num_rows:.2g}): {first}{more}; "
        "mend or remove these, or raise data.max_corrupt."
    )


def check_max_corrupt(max_corrupt: float) -> None:
    """Raise UserError unless the limit is a fraction."""
    if not 0 <= max_corrupt <= 1:
        raise UserError(
            f"data.max_corrupt must be a fraction from 0 to 1, but is {max_corrupt}; "
            f"for 0.1 % write data.max_corrupt=0.001."
        )
