"""What a user sees while a run goes on: on terminals of any width, and in a file."""

import io
from typing import Any

import pytest
from rich.console import Console

from distmgcd.cli.terminal.run_display import Display, line_of, lines_of_runs, table_of, unseen
from distmgcd.runs.listing import Summary
from distmgcd.terminal import time_in_words

SIZES = (4, 8, 16, 32, 64)


def record(*, seconds_left: float = 94.0, update: int = 10_000) -> dict[str, Any]:
    grid = {"gap": -0.0234, "drift_to_noise": 12.34}
    return {
        "update": update,
        "num_updates": 50_000,
        "images_per_s": 1234.5,
        "seconds_left": seconds_left,
        "grids": {str(size): grid for size in SIZES},
    }


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_five_grids_fit_any_width_and_nothing_is_cut(width: int):
    wrapped, whole = line_of(record(seconds_left=200_000), width=width), line_of(record(seconds_left=200_000))
    assert max(map(len, wrapped.splitlines())) <= width
    assert wrapped.replace("\n", "  ") == whole
    assert len(wrapped.splitlines()) == {200: 1, 80: 2, 60: 3, 40: 5}[width]


def test_time_left_comes_first():
    assert line_of(record()).startswith("1:34 left  update 10000/50000  1234 images/s  gap 4x4 -0.023  8x8 -0.023")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0:00"), (94.4, "1:34"), (3599, "59:59"), (3600, "1 h 00 min"), (86_000, "23 h 53 min"), (200_000, "2 d 7 h")],
)
def test_long_times_are_in_hours_and_days(seconds: float, words: str):
    assert time_in_words(seconds) == words


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_terminal_shows_all_of_it(width: int):
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=width, color_system=None, legacy_windows=False)
    with Display(console) as show:
        show(record())
        show._live.refresh()
    text = " ".join(file.getvalue().split())
    assert "1:34 left" in text and "drift/noise 12.3 12.3 12.3 12.3 12.3" in text and "…" not in text


def test_a_file_gets_one_line_a_record_whatever_its_length():
    file = io.StringIO()
    with Display(Console(file=file, width=60, highlight=False)) as show:
        for _ in range(2):  # runs of a comparison
            show({"start": "Images: 1,438 to learn from [x], 359 held out."})
        show(record(update=50_000))
    first, second = file.getvalue().splitlines()
    assert first == "Images: 1,438 to learn from [x], 359 held out." and second == line_of(record(update=50_000))


def test_beside_the_table_is_what_it_does_not_see():
    text = unseen("my runs/digits")
    assert "cannot see whether pictures are sharp or" in text and "`distmgcd evaluate 'my runs/digits'`" in text
    swd = {"samples": {"8": 0.1}, "data": {"8": 0.05}}
    assert table_of({"swd": swd, "swd_spread": swd}).row_count == 2


def test_the_table_says_of_how_many_samples_and_images_it_is():
    swd = {"samples": {"8": 0.1}, "data": {"8": 0.05}}
    protocol = {"samples": "2000 fresh chains a draw", "reference": "359 images of digits"}
    title = table_of({"swd": swd, "swd_spread": swd, "protocol": protocol}).title
    assert "2,000 samples against 359 held-out images (distances of fewer images are larger)" in title


def test_a_warning_is_yellow_and_how_chains_are_executed_is_not():
    for more, is_yellow in (({}, True), ({"speed": {}}, False)):
        console = Console(file=io.StringIO(), force_terminal=True, color_system="standard")
        Display(console)({"event": "Training on 2 workers.", **more})
        assert ("\x1b[33m" in console.file.getvalue()) == is_yellow


def test_what_takes_a_while_is_in_the_line_that_moves_or_a_line_of_a_file():
    file = io.StringIO()
    Display(Console(file=file, width=30))({"update": 6, "doing": "Measuring 20 samples against 10 held-out images ..."})
    assert file.getvalue() == "Measuring 20 samples against 10 held-out images ...\n"
    file = io.StringIO()
    with Display(Console(file=file, force_terminal=True, width=30, color_system=None, legacy_windows=False)) as show:
        show(record())
        show({"update": 6, "doing": "Measuring 20 samples against 10 held-out images ..."})
        assert "Measuring 20 samples against" in file.getvalue(), "at once"


@pytest.mark.parametrize(("metric", "words"), [("swd", "  31.8"), ("swd/16", "at 16x16 31.8"), ("fd", "fd 0.0318")])
def test_the_runs_say_what_their_distance_is_of(metric: str, words: str):
    run = Summary("run", "finished", 6, 6, 0.0318, metric, 100, None)
    titles, line = lines_of_runs([run])
    assert "1000 x swd, mean over grids" in titles and words in line
