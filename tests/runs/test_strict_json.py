"""Every file of a run is JSON that any parser reads, also where numbers are not finite."""

import json
import math
from pathlib import Path

import pytest
from tiny_runs import debug

from distmgcd.runs import strict_json
from distmgcd.runs.read_log import read_log
from distmgcd.runs.run_folder import METRICS_FILE
from distmgcd.runs.store import Store
from distmgcd.training.divergence import Diverged


def strictly(text: str):
    """As a parser reads it that knows JSON only."""

    def refuse(word: str):
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_what_is_not_finite_is_a_word_and_comes_back_as_it_was():
    value = {"a": [math.inf, -math.inf, 1.5], "b": {"c": (None, "text", True)}, "d": math.nan}
    text = strict_json.dumps(value, indent=1)
    assert strictly(text)["a"] == ["Infinity", "-Infinity", 1.5] and strictly(text)["d"] == "NaN"
    back = strict_json.loads(text.encode())
    assert back["a"] == value["a"] and back["b"] == {"c": [None, "text", True]} and math.isnan(back["d"])


def test_bare_words_of_older_versions_are_read_as_well():
    assert strict_json.loads('{"gap": Infinity, "drift": -Infinity}') == {"gap": math.inf, "drift": -math.inf}
    with pytest.raises(ValueError):
        strict_json.loads('{"gap": Inf')


def test_the_log_of_a_diverged_run_is_json_line_by_line(tmp_path: Path):
    with pytest.raises(Diverged):
        debug(tmp_path, "langevin.step_size=1e30", "langevin.clamp=none", "watch.max_retries=1")
    records = [strictly(line) for line in (tmp_path / "run" / "log" / METRICS_FILE).read_text().splitlines()]
    words = {value for record in records for grid in record.get("grids", {}).values() for value in grid.values()}
    assert words & {"NaN", "Infinity", "-Infinity"}, "the run shows what is tested"
    read = read_log(Store(str(tmp_path / "run")))
    gaps = [grid["gap"] for record in read for grid in record.get("grids", {}).values()]
    assert gaps and all(isinstance(gap, float) for gap in gaps)
