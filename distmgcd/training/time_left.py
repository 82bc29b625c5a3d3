"""How long a run takes: the time left of every record, and an announcement once the rate has been measured."""

from typing import Any

from distmgcd.config import Config
from distmgcd.config.cost import in_words, num_evaluations, run_cost, update_cost
from distmgcd.terminal import hours_in_words
from distmgcd.training.pace import Pace

_ENOUGH = 8  # updates from which a rate is announced
_SHORTEST = 60.0  # seconds: nobody needs to be told that less than this is left


def seconds_left(config: Config, done: int, seconds_per_update: float) -> float:
    """Of the updates and evaluations that are still to come; a sample takes as long as its multiply-adds in learning.

    done: updates; an evaluation of the last one is still to come.
    """
    return seconds_per_update * run_cost(config, after=done) / update_cost(config)


def announcement(config: Config, done: int, pace: Pace) -> dict[str, Any] | None:
    """The event that says, once in a process, how long the rest of the run takes at the rate that was measured."""
    if pace.announced or pace.num_updates < _ENOUGH:
        return None
    pace.announced, left = True, seconds_left(config, done, pace.seconds_per_update)
    if left < _SHORTEST:
        return None
    multiply_adds_per_s = update_cost(config) / pace.seconds_per_update
    images_per_s = config.learning.global_batch_size / pace.seconds_per_update
    text = (
        f"About {hours_in_words(left)} to go: {_what_is_left(config, done)}, at {images_per_s:.3g} images/s as "
        f"measured here ({in_words(multiply_adds_per_s)} multiply-adds/s)."
    )
    return {"event": text, "rate": {"images_per_s": images_per_s, "multiply_adds_per_s": multiply_adds_per_s}}


def _what_is_left(config: Config, done: int) -> str:
    num, updates = num_evaluations(config, after=done), config.learning.num_updates - done
    evaluations = "1 evaluation" if num == 1 else f"{num} evaluations"
    return f"{updates:,} update{'' if updates == 1 else 's'} and {evaluations}"
