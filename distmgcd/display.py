"""What a user sees of a run: a line that moves on a terminal, a line now and then in a file."""

import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from distmgcd.runs.listing import Summary

_SECONDS_BETWEEN_LINES = 10.0  # where nobody watches a terminal


class Display:
    """Called with every record of a run's log; a context, so that the terminal is left as it was."""

    def __init__(self, console: Console | None = None):
        self._console = console or Console(file=sys.stdout, highlight=False)
        self._live = (
            Live(console=self._console, refresh_per_second=4, transient=True) if self._console.is_terminal else None
        )
        self._last_line = 0.0

    def __enter__(self) -> "Display":
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def __call__(self, record: dict[str, Any]) -> None:
        if "event" in record:
            self._console.print(Text(record["event"], style="yellow"), soft_wrap=True)
        elif "swd" in record:
            distances = distances_in_words(record["swd"], record["swd_spread"])
            self._console.print(
                f"update {record['update']}: 1000 x sliced Wasserstein distance to held-out images {distances}",
                soft_wrap=True,
            )
        elif "grids" not in record:
            return  # what a checkpoint took is for the log
        elif self._live:
            self._live.update(Text(line_of(record), overflow="ellipsis", no_wrap=True))
        elif time.monotonic() - self._last_line > _SECONDS_BETWEEN_LINES or record["update"] == record["num_updates"]:
            self._last_line = time.monotonic()
            self._console.print(line_of(record), soft_wrap=True)


def line_of(record: dict[str, Any]) -> str:
    """One record in one line: update, speed, each grid's energy gap and drift against noise, time left."""
    grids = "  ".join(f"{size}x{size} {values['gap']:+.3f}" for size, values in record["grids"].items())
    ratios = " ".join(
        f"{v['drift_to_noise']:.1f}" if v["drift_to_noise"] is not None else "-" for v in record["grids"].values()
    )
    minutes, seconds = divmod(round(record["seconds_left"]), 60)
    return (
        f"update {record['update']}/{record['num_updates']}  {record['images_per_s']:.0f} images/s  gap {grids}  "
        f"drift/noise {ratios}  {minutes}:{seconds:02d} left"
    )


def distances_in_words(distances: dict[str, float], spread: dict[str, float]) -> str:
    return "  ".join(f"{size}x{size} {_with_spread(value, spread[size])}" for size, value in distances.items())


def _with_spread(value: float, spread: float) -> str:
    """Times 1000, with the standard deviation over draws where there are several."""
    return f"{1000 * value:.1f}" + (f" ± {1000 * spread:.1f}" if spread else "")


def table_of(result: dict[str, Any]) -> Table:
    """The distances of fresh samples, the untrained model and the data itself, per grid."""
    rows = {"fresh samples": "samples", "untrained model": "untrained", "data against itself": "data"}
    table = Table(title="1000 x sliced Wasserstein distance to held-out images", title_justify="left")
    table.add_column("")
    for size in result["swd"]["samples"]:
        table.add_column(f"{size}x{size}", justify="right")
    for title, key in rows.items():
        if key not in result["swd"]:  # evaluate.untrained=false
            continue
        values, spreads = result["swd"][key], result["swd_spread"][key]
        table.add_row(title, *(_with_spread(value, spreads[size]) for size, value in values.items()))
    return table


def size_in_words(num_bytes: int) -> str:
    return f"{num_bytes / 2**20:.1f} MiB" if num_bytes >= 2**20 else f"{num_bytes / 2**10:.1f} KiB"


def lines_of_runs(runs: "Sequence[Summary]") -> list[str]:
    """A table of runs in plain text, one line a run under a line of titles."""
    rows = [("run", "state", "update", "1000 x swd", "size", "last written")]
    for run in runs:
        of = "?" if run.num_updates is None else run.num_updates
        score = "-" if run.score is None else f"{1000 * run.score:.1f}"
        written = run.written.astimezone().strftime("%Y-%m-%d %H:%M") if run.written else "-"
        rows.append((run.name, run.state, f"{run.update}/{of}", score, size_in_words(run.num_bytes), written))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = (str.ljust, str.ljust, str.rjust, str.rjust, str.rjust, str.ljust)
    return [
        "  ".join(align(cell, width) for align, cell, width in zip(aligned, row, widths, strict=True)).rstrip()
        for row in rows
    ]
