"""Text on a terminal is wrapped between words; elsewhere one record is one line."""

import io

import pytest
from rich.console import Console

from distmgcd.cli.terminal.run_display import Display
from distmgcd.cli.terminal.sweep_display import SweepDisplay
from distmgcd.terminal import hours_in_words, width_of, wrapped

SENTENCE = "There is no run at runs/some-thing; `distmgcd train` prints the path of the run it made, and so on."
RECORDS = (
    {"start": SENTENCE},
    {"event": SENTENCE},
    {"event": SENTENCE, "speed": {}},
    {"update": 3, "swd": {"8": 0.1, "16": 0.2}, "swd_spread": {"8": 0.0, "16": 0.0}},
)


@pytest.mark.parametrize("width", [20, 40, 46, 79])
def test_lines_fit_and_no_word_or_command_is_broken(width: int):
    lines = wrapped(SENTENCE, width).split("\n")
    assert max(map(len, lines)) <= width and " ".join(lines) == SENTENCE
    assert any("`distmgcd train`" in line for line in lines)


def test_a_path_that_is_wider_stays_whole_and_lines_stay_lines():
    path = "runs/" + 50 * "x-"
    assert wrapped(f"see {path} there\nand more", 30) == f"see\n{path}\nthere\nand more"


def test_what_is_no_terminal_is_left_alone():
    assert width_of(io.StringIO()) is None and wrapped(SENTENCE, None) == SENTENCE


def shown(display: type, records: tuple, *, terminal: bool) -> list[str]:
    file = io.StringIO()
    how = {"force_terminal": terminal, "width": 40, "highlight": False, "color_system": None, "legacy_windows": False}
    show = display(Console(file=file, **how))
    for record in records:
        show(record)
    return file.getvalue().splitlines()


@pytest.mark.parametrize("record", RECORDS, ids=["start", "warning", "note", "evaluation"])
def test_a_run_wraps_on_a_terminal_only(record: dict):
    (line,) = shown(Display, (record,), terminal=False)
    on_terminal = shown(Display, (record,), terminal=True)
    assert len(on_terminal) > 1 and " ".join(on_terminal).split() == line.split() and max(map(len, on_terminal)) <= 40


def test_a_sweep_wraps_on_a_terminal_only():
    record = {"event": "warning", "text": SENTENCE}
    for terminal, num_lines in ((True, 3), (False, 1)):
        lines = shown(lambda console: SweepDisplay(3, console), (record,), terminal=terminal)
        assert len(lines) == num_lines and " ".join(lines) == SENTENCE


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "1 min"), (89, "1 min"), (3540, "59 min"), (3599, "1 h 00 min"), (200_000, "2 d 7 h")]
)
def test_how_long_something_takes_in_a_sentence(seconds: float, words: str):
    assert hours_in_words(seconds) == words
