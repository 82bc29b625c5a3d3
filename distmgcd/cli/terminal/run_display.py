"""What a user sees of a run: a line that moves on a terminal, a line now and then in a file."""

import shlex
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from distmgcd.terminal import time_in_words, wrapped

if TYPE_CHECKING:
    from distmgcd.data.cache_folder import Entry
    from distmgcd.runs.listing import Summary

_NO_WARNING = {"speed", "rate"}  # keys of events that are no warnings
_SECONDS_BETWEEN_LINES = 10.0  # where nobody watches a terminal


class Display:
    """Called with what a run shows: lines before it begins, {"start": ...}, then every record of its log.

    A context, so that the terminal is left as it was.
    """

    def __init__(self, console: Console | None = None):
        self._console = console or Console(file=sys.stdout, highlight=False)
        self._live = (
            Live(console=self._console, refresh_per_second=4, transient=True) if self._console.is_terminal else None
        )
        self._last_line = 0.0
        self._told: set[str] = set()  # lines of a start: a comparison starts many runs on the same images

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
        if "start" in record:
            if record["start"] in self._told:
                return
            self._told.add(record["start"])
            print_text(self._console, record["start"])
        elif "doing" in record:
            self._show_doing(record["doing"])
        elif "event" in record:
            print_text(self._console, record["event"], style="" if record.keys() & _NO_WARNING else "yellow")
        elif "swd" in record:
            distances = distances_in_words(record["swd"], record["swd_spread"])
            if "fd" in record:
                distances += f"; {frechet_in_words(record['fd'], record['fd_spread'])}"
            title = "1000 x sliced Wasserstein distance to held-out images"
            print_text(self._console, f"update {record['update']}: {title} {distances}")
        elif "grids" not in record:
            return  # what a checkpoint took is for the log
        elif self._live:
            self._live.update(Text(line_of(record, width=self._console.width), no_wrap=True))
        elif time.monotonic() - self._last_line > _SECONDS_BETWEEN_LINES or record["update"] == record["num_updates"]:
            self._last_line = time.monotonic()
            print_text(self._console, line_of(record))

    def _show_doing(self, text: str) -> None:
        """What takes a while: on a terminal in the line that moves, until there is something new."""
        if self._live:
            self._live.update(Text(wrapped(text, self._console.width)), refresh=True)
        else:
            print_text(self._console, text)


def print_text(console: Console, text: str, *, style: str = "") -> None:
    """On a terminal wrapped between words; elsewhere as it is."""
    width = console.width if console.is_terminal else None
    console.print(Text(wrapped(text, width), style=style), soft_wrap=True)


def line_of(record: dict[str, Any], *, width: int | None = None) -> str:
    """One record: time left, update, speed, each grid's energy gap and drift against noise.

    width: of a terminal, in characters; what does not fit is put in further lines. None: one line of any length.
    """
    grids = record["grids"]
    gaps = [f"{size}x{size} {values['gap']:+.3f}" for size, values in grids.items()]
    ratios = ["-" if v["drift_to_noise"] is None else f"{v['drift_to_noise']:.1f}" for v in grids.values()]
    parts = [
        f"{time_in_words(record['seconds_left'])} left",
        f"update {record['update']}/{record['num_updates']}",
        f"{record['images_per_s']:.0f} images/s",
        *(["gap " + gaps[0], *gaps[1:]]),
        f"drift/noise {' '.join(ratios)}",
    ]
    return _wrapped(parts, width) if width else "  ".join(parts)


def _wrapped(parts: Sequence[str], width: int) -> str:
    """The parts in lines of at most so many characters; only a part that is wider than that is broken."""
    lines = [""]
    for piece in (piece for part in parts for piece in textwrap.wrap(part, width)):
        longer = f"{lines[-1]}  {piece}" if lines[-1] else piece
        if len(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(piece)
    return "\n".join(lines)


def distances_in_words(distances: dict[str, float], spread: dict[str, float]) -> str:
    return "  ".join(f"{size}x{size} {_with_spread(value, spread[size])}" for size, value in distances.items())


def frechet_in_words(distances: dict[str, float], spread: dict[str, float]) -> str:
    """ "FD-EfficientNetLite0 12.3 ± 0.4"."""
    return "  ".join(f"{name} {_frechet_with_spread(value, spread[name])}" for name, value in distances.items())


def _frechet_with_spread(value: float, spread: float) -> str:
    return (f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}") + (f" ± {spread:.3g}" if spread else "")


def _with_spread(value: float, spread: float) -> str:
    """Times 1000, with the standard deviation over draws where there are several."""
    return f"{1000 * value:.1f}" + (f" ± {1000 * spread:.1f}" if spread else "")


def table_of(result: dict[str, Any]) -> Table:
    """The distances of fresh samples, the untrained model and the data itself, per grid."""
    rows = {
        "fresh samples": "samples",
        "those of the last update": "newest",
        "persistent chains": "bank",
        "untrained model": "untrained",
        "data against itself": "data",
    }
    frechet = result.get("fd", {}).get("samples", {})
    table = Table(title=_title_of(result, list(frechet)), title_justify="left")
    for title in ("", *(f"{size}x{size}" for size in result["swd"]["samples"]), *frechet):
        table.add_column(title, justify="right" if title else "left")
    for title, key in rows.items():
        if key not in result["swd"]:
            continue
        values, spreads = result["swd"][key], result["swd_spread"][key]
        cells = [_with_spread(value, spreads[size]) for size, value in values.items()]
        cells += [_frechet_with_spread(result["fd"][key][name], result["fd_spread"][key][name]) for name in frechet]
        table.add_row(title, *cells)
    return table


def _title_of(result: dict[str, Any], frechet: Sequence[str]) -> str:
    """What the table shows, of how many samples and images: a distance depends on that."""
    beside = f", and {', '.join(frechet)}" if frechet else ""
    samples, images = (_first_number(result, key) for key in ("samples", "reference"))
    if not samples or not images:  # of an older version
        return f"1000 x sliced Wasserstein distance to held-out images{beside}"
    return (
        f"1000 x sliced Wasserstein distance{beside}: {samples} samples against {images} held-out images "
        "(distances of fewer images are larger)"
    )


def _first_number(result: dict[str, Any], key: str) -> str | None:
    """How many, of an entry of the protocol that begins with that."""
    number = result.get("protocol", {}).get(key, "").partition(" ")[0]
    return f"{int(number):,}" if number.isdecimal() else None


def unseen(folder: str) -> str:
    """What the distances of the table do not show, and which command does."""
    return (
        "This distance compares pixel values along random directions. It cannot see whether pictures are sharp or "
        f"whole, so blobs may come close to the data: see the samples, and `distmgcd evaluate {shlex.quote(folder)}`."
    )


def size_in_words(num_bytes: int) -> str:
    return f"{num_bytes / 2**20:.1f} MiB" if num_bytes >= 2**20 else f"{num_bytes / 2**10:.1f} KiB"


def lines_of_runs(runs: "Sequence[Summary]") -> list[str]:
    """A table of runs in plain text, one line a run under a line of titles."""
    rows = [("run", "state", "update", "1000 x swd, mean over grids", "size", "last written")]
    for run in runs:
        of = "?" if run.num_updates is None else run.num_updates
        written = run.written.astimezone().strftime("%Y-%m-%d %H:%M") if run.written else "-"
        rows.append((run.name, run.state, f"{run.update}/{of}", _score_of(run), size_in_words(run.num_bytes), written))
    return _aligned(rows, (str.ljust, str.ljust, str.rjust, str.rjust, str.rjust, str.ljust))


def _score_of(run: "Summary") -> str:
    """By the run's checkpoint.metric, which is named where it is another than the column's."""
    if run.score is None:
        return "-"
    if run.metric == "fd":
        return f"fd {run.score:.4g}"
    one = run.metric.partition("/")[2]
    return f"{f'at {one}x{one} ' if one else ''}{1000 * run.score:.1f}"


def lines_of_jobs(jobs: Sequence[Any]) -> list[str]:
    """The same of a cluster's jobs, as ray.job_submission.JobDetails says it."""
    rows = [("job", "state", "command", "preset", "name", "update", "started")]
    for job in jobs:
        said = [(job.metadata or {}).get(key, "-") for key in ("command", "preset", "name", "update")]
        started = datetime.fromtimestamp(job.start_time / 1000).strftime("%Y-%m-%d %H:%M") if job.start_time else "-"
        rows.append((job.submission_id, job.status.lower(), *said, started))
    return _aligned(rows, (str.ljust,) * 5 + (str.rjust, str.ljust))


def lines_of_cache(entries: "Sequence[Entry]") -> list[str]:
    """The same of what is in the cache of decoded images."""
    rows = [("entry", "size", "last used", "images", "data set")]
    for entry in entries:
        used = "in use" if entry.in_use else datetime.fromtimestamp(entry.last_used).strftime("%Y-%m-%d %H:%M")
        images = "{} of {}x{}x{}".format(*entry.shape) if entry.of else "-"
        rows.append((entry.short_name, size_in_words(entry.num_bytes), used, images, entry.in_words))
    return _aligned(rows, (str.ljust, str.rjust, str.ljust, str.rjust, str.ljust))


def _aligned(rows: Sequence[Sequence[str]], aligns: Sequence[Callable[[str, int], str]]) -> list[str]:
    """Rows of cells as lines, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(align(cell, width) for align, cell, width in zip(aligns, row, widths, strict=True)).rstrip()
        for row in rows
    ]
