"""What a user sees of a sweep."""

import io
from dataclasses import replace

from rich.console import Console

from distmgcd.cli.terminal.sweep_display import SweepDisplay, lines_of_result, parameters_in_words
from distmgcd.sweep.trial import Trial

PARAMETERS = {"langevin.step_size": [1.0, 0.123456], "langevin.num_steps": 5}
GOOD = Trial(
    name="trial_0001",
    state="finished",
    parameters=PARAMETERS,
    objective=0.0912,
    swd={"2": 0.05, "8": 0.1324},
    swd_spread={"2": 0.001, "8": 0.0},
    gradient_evaluations=10,
    run="sweeps/try/trials/trial_0001",
)
BAD = Trial(name="trial_0002", state="diverged", reason="Grid 8x8 diverged at update 3.", updates=3)


def shown(*events: dict, objective: str = "swd") -> list[str]:
    console = Console(file=io.StringIO(), width=40)
    display = SweepDisplay(3, console, objective=objective)
    for event in events:
        display(event)
    return console.file.getvalue().splitlines()


def test_a_line_an_event_with_the_best_and_the_time_left():
    lines = shown(
        {"event": "kept", "num_kept": 1, "num_begun": 0},
        {"trial": "trial_0001", "event": "started", "parameters": PARAMETERS},
        {"trial": "trial_0001", "event": "evaluated", "updates": 3, "objective": 0.5},
        {"trial": "trial_0001", "event": "finished", "of": GOOD, "best": GOOD, "left_s": 75.0},
        {"trial": "trial_0002", "event": "diverged", "of": BAD, "best": GOOD, "left_s": 0.0},
    )
    assert lines == [
        "Trials kept that have ended before: 1; that go on: 0.",
        "trial_0001 starts  step_size=[1,0.123]  num_steps=5",
        "trial_0001 finished 91.2   2/3 ended, best 91.2 (trial_0001), about 1:15 left",
        "trial_0002 diverged after 3 updates (Grid 8x8 diverged at update 3.)   3/3 ended, best 91.2 (trial_0001)",
    ]


def test_what_befalls_a_trial_is_told():
    start = {"run": "trial_0003.2", "update": 40}
    assert shown(
        {"trial": "trial_0001", "event": "again", "why": "Its process 7 died."},
        {"trial": "trial_0001", "event": "moved", "start": start, "parameters": {"data.noise": 0.5}},
        {"event": "warning", "text": "The results could not be written yet."},
    ) == [
        "trial_0001 goes on from its newest checkpoint: Its process 7 died.",
        "trial_0001 goes on from trial_0003.2, update 40, with  noise=0.5",
        "The results could not be written yet.",
    ]


def test_at_the_end_the_best_trial_and_the_command_that_trains_it():
    lines = lines_of_result([GOOD, BAD], GOOD, "sweeps/try")
    assert lines[0] == "2 trials: 1 finished, 1 diverged."
    assert "2x2 50.0 ± 1.0  8x8 132.4" in lines[2]
    assert lines[-1] == "train it       distmgcd train sweeps/try/best.yaml"


def test_a_sweep_by_fd_tells_that_and_its_features():
    good = replace(GOOD, objective=7.5, fd={"FD-Random": 7.5}, fd_spread={"FD-Random": 0.25})
    event = {"trial": "trial_0001", "event": "finished", "of": good, "best": good, "left_s": 0.0}
    (line,) = shown(event, objective="fd")
    assert line == "trial_0001 finished 7.5   1/3 ended, best 7.5 (trial_0001)"
    assert lines_of_result([good], good, "sweeps/try")[2].strip() == "FD-Random 7.5 ± 0.25"


def test_a_best_trial_that_was_cut_short_is_said_to_be():
    pruned = replace(GOOD, state="pruned")
    lines = lines_of_result([pruned, BAD], pruned, "sweeps/try")
    assert lines[1] == "No trial came to its end; the best one below was pruned."
    assert lines[-1] == "train it       distmgcd train sweeps/try/best.yaml"


def test_where_no_trial_has_a_result_there_is_no_best():
    assert lines_of_result([BAD], None, "sweeps/try")[1].startswith("No trial has a result, so none is the best")


def test_parameters_are_told_by_their_last_names():
    assert (
        parameters_in_words({"grids.sizes": [2, 8], "learning.learning_rate": 1e-3})
        == "sizes=[2,8]  learning_rate=0.001"
    )
