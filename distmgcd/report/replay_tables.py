"""What a user sees of a replay: tables on the terminal, a strip of pictures, and the numbers in a file."""

import json
import math
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from distmgcd.errors import UserError
from distmgcd.evaluation.pictures.strip import Row, Strip, save_strips
from distmgcd.terminal import wrapped
from distmgcd.training.replay.chain_steps import GridChains, rows_of, worst
from distmgcd.training.replay.replay_update import Images, Replay, replay
from distmgcd.workers.collectives import choose_device

_MOST_TABLES = 8  # of single steps; of more images only the ends are shown


def report(run: str, *, update: int, images: str | None, out: Path | None, use_gpu: bool | None, **how: Any) -> None:
    """Replay, print the tables and write the files; how: as distmgcd.replay takes it. Raises UserError."""
    out, console = out or Path("replay.png"), Console(highlight=False)

    def show(text: str) -> None:
        console.print(wrapped(text, console.width if console.is_terminal else None), markup=False, soft_wrap=True)

    found = replay(run, update=update, images=images_of(images), device=choose_device(use_gpu), show=show, **how)
    try:  # before the tables, so that `| head` does not lose them
        out.parent.mkdir(parents=True, exist_ok=True)
        write_files(found, out)
    except OSError as error:
        raise UserError(f"--out {out} cannot be written ({error.strerror or error}); choose another place.") from None
    for table in [table_of_grids(found)] if images is None else tables_of(found):
        console.print(table)
    steps = " (every step of these chains)" if images is None else ""
    show(f"pictures       {out}\nnumbers        {_numbers_file(out)}{steps}")


def images_of(text: str | None) -> Images:
    """What --images says: numbers, "all", or nothing. Raises UserError."""
    if text is None:
        return None
    if text.strip() == "all":
        return "all"
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UserError(
            f"--images must be numbers with commas between them, or all, but is {text!r}; write --images 13,18."
        ) from None


def _numbers_file(out: Path) -> Path:
    """Where the numbers of a picture are written: beside it."""
    return out.with_suffix(".json")


def write_files(replay: Replay, out: Path) -> None:
    """The strips as a PNG, and all numbers as JSON of the same name beside it."""
    save_strips(list(_strips(replay)), out)
    _numbers_file(out).write_text(json.dumps(numbers_of(replay), indent=1, allow_nan=False))


def numbers_of(replay: Replay) -> dict[str, Any]:
    """Everything but the pictures; a number that is not finite is null, and "finite" is false beside it."""
    observed = [
        {"image": image, "grid": grid.size, "energy": float(grid.observed_energy[number])}
        for number, image in enumerate(replay.images)
        for grid in replay.grids
    ]
    return {
        "run": replay.run,
        "update": replay.update,
        "checkpoint": replay.checkpoint,
        "rate_scale": replay.rate_scale,
        "notes": replay.notes,
        "steps": [_with_nulls(row) for row in rows_of(replay.grids, replay.images)],
        "observed": [_with_nulls(row) for row in observed],
    }


def tables_of(replay: Replay) -> Iterator[Table]:
    """A table an image with every step; one of all images with the ends of their chains where there are many."""
    observed = {
        (image, grid.size): float(grid.observed_energy[number])
        for grid in replay.grids
        for number, image in enumerate(replay.images)
    }
    rows = list(rows_of(replay.grids, replay.images))
    if len(replay.images) > _MOST_TABLES:
        yield _table_of_ends(rows, observed, f"Update {replay.update}: where the chains end")
        return
    for image, rows_of_image in groupby(rows, key=lambda row: row["image"]):
        yield _table_of_steps(list(rows_of_image), observed, f"Image {image} at update {replay.update}")


def table_of_grids(replay: Replay) -> Table:
    """One row per grid: the chain whose last step drifted most there, from start to end."""
    title = f"Update {replay.update}: at every grid, the chain whose last step drifted most"
    table = _table(title, "grid", "image", "U start", "U end", "observed", "drift/noise", "at +-1")
    rows = list(rows_of(replay.grids, replay.images))
    for grid in replay.grids:
        number = int(worst([grid], 1))
        first, *_, last = (row for row in rows if (row["image"], row["grid"]) == (replay.images[number], grid.size))
        ratio = last["drift"] / last["noise"] if last["noise"] else None
        numbers = (first["energy"], last["energy"], float(grid.observed_energy[number]), ratio)
        cells = [f"{grid.size}x{grid.size}", str(last["image"]), *(_number(value, 3) for value in numbers)]
        table.add_row(*cells, _edge(last), style=_style(last))
    return table


def _table_of_steps(rows: list[dict[str, Any]], observed: dict[tuple[int, int], float], title: str) -> Table:
    table = _table(title, "grid", "step", "energy U", "drift rms", "noise rms", "from start", "at +-1")
    for size, of_grid in groupby(rows, key=lambda row: row["grid"]):
        rows_of_grid = list(of_grid)
        for row in rows_of_grid:
            numbers = [_number(row[key]) for key in ("energy", "drift", "noise", "displacement")]
            grid = "" if row["step"] else f"{size}x{size}"
            table.add_row(grid, _name_of(row), *numbers, _edge(row), style=_style(row))
        table.add_row("", "observed", _number(observed[rows_of_grid[0]["image"], size]), end_section=True)
    return table


def _table_of_ends(rows: list[dict[str, Any]], observed: dict[tuple[int, int], float], title: str) -> Table:
    table = _table(title, "image", "grid", "observed U", "U", "drift rms", "from start", "at +-1")
    for (image, size), steps in groupby(rows, key=lambda row: (row["image"], row["grid"])):
        *_, last = steps
        numbers = [_number(value) for value in (observed[image, size], last["energy"], last["drift"])]
        table.add_row(
            str(image), f"{size}x{size}", *numbers, _number(last["displacement"]), _edge(last), style=_style(last)
        )
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _name_of(row: dict[str, Any]) -> str:
    """Of a step: its number, and whether the clamp came after it."""
    return f"{row['step']} clamped" if row["clamped"] else str(row["step"] or "start")


def _edge(row: dict[str, Any]) -> str:
    """How much of the picture is at or beyond the ends of the range of pixels."""
    return f"{100 * row['saturation']:.0f} %" if row["finite"] else "overflow"


def _style(row: dict[str, Any]) -> str | None:
    return None if row["finite"] else "red"


def _number(value: float | None, digits: int = 4) -> str:
    return "" if value is None else f"{value:.{digits}g}"


def _with_nulls(row: dict[str, Any]) -> dict[str, Any]:
    return {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in row.items()}


def _strips(replay: Replay) -> Iterator[Strip]:
    for number, image in enumerate(replay.images):
        title = (
            f"image {image} at update {replay.update}     U: energy, d: rms drift of the step that led here; pixels "
            "from -1 (black) to 1 (white)"
        )
        yield Strip(title, [_row(grid, number) for grid in replay.grids])


def _row(grid: GridChains, number: int) -> Row:
    """The start, every step, and the observed picture aside."""
    steps = range(1, len(grid.pictures))
    drifts = ["", *(f"d {grid.drift[step - 1, number]:.2g}" for step in steps)]
    return Row(
        label=f"{grid.size}x{grid.size}",
        pictures=torch.cat([grid.pictures[:, number], grid.observed[number : number + 1]]),
        above=[
            *(f"{step} clamped" if grid.is_clamped(step) else str(step or "start") for step in (0, *steps)),
            "observed",
        ],
        below=[
            *(f"U {grid.energy[step, number]:.3g}\n{drift}" for step, drift in enumerate(drifts)),
            f"U {grid.observed_energy[number]:.3g}",
        ],
        marked=[*(not finite for finite in grid.finite[:, number].tolist()), False],
    )
