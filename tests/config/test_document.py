"""Files of users: where their mistakes are."""

from pathlib import Path

import pytest

from distmgcd.config import load_config
from distmgcd.config.document import Strict, read_document
from distmgcd.config.kinds import PositiveInt
from distmgcd.errors import UserError


class Part(Strict):
    size: PositiveInt = 3


class Whole(Strict):
    needed: PositiveInt
    part: Part = Part()
    parts: dict[str, Part] = {}
    sizes: list[PositiveInt] | None = None


def write(file: Path, text: str) -> str:
    file.write_text(text)
    return str(file)


def refused(folder: Path, text: str) -> str:
    with pytest.raises(UserError) as caught:
        read_document(write(folder / "my.yaml", text)).validated(Whole)
    return str(caught.value).removeprefix(f"{folder}/")


def test_what_is_right_is_a_model_of_it(tmp_path: Path):
    text = "needed: 1\nparts: {a: &a {size: 2}, b: *a}\npart: {<<: *a}\n"
    found = read_document(write(tmp_path / "my.yaml", text)).validated(Whole)
    assert found == Whole(needed=1, part=Part(size=2), parts={"a": Part(size=2), "b": Part(size=2)})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("needed: 0\n", "line 1: needed must be a whole number from 1 up, but is 0."),
        ("part: {size: 2}\n", "line 1: needed is missing; add it."),
        (
            "need: 1\n",
            "line 1: There is no setting 'need' (did you mean 'needed'?); a file has needed, part, parts, sizes.",
        ),
        (
            "needed: 1\npart:\n  size: x\n",
            "line 3: part.size must be a whole number from 1 up, but is 'x'; its default is 3.",
        ),
        ("needed: 1\npart: 7\n", "line 2: part must hold settings, but is 7; it has part.size."),
        (
            "needed: 1\nparts:\n  a: {sise: 2}\n",
            "line 3: There is no setting 'parts.a.sise' (did you mean 'size'?); parts.a has",
        ),
        (
            "needed: 1\nsizes:\n  - 1\n  - no\n",
            "line 4: sizes must be a list, each entry a whole number from 1 up, but is",
        ),
        ("- 1\n", "line 1: A file must hold settings, but is [1]; it has needed, part, parts, sizes."),
        ("needed: 1\npart: &p [*p]\n", "line 2: part must hold settings"),
    ],
)
def test_a_mistake_is_reported_with_line_setting_value_and_rule(tmp_path: Path, text: str, said: str):
    assert refused(tmp_path, text).startswith(f"my.yaml, {said}")


@pytest.mark.parametrize(
    ("mine", "changes", "said"),
    [
        ("base: digits\nlearning: {ema: 7}\n", (), "my.yaml, line 2: learning.ema must be a fraction from 0 to 1"),
        ("base: base.yaml\nseed: 2\n", (), "base.yaml, line 3: learning.warmup must be a whole number from 0 up"),
        ("base: base.yaml\nlearning.warmup: no\n", (), "my.yaml, line 2: learning.warmup must be a whole number"),
        ("base: base.yaml\nlearning.warmup: 3\n", ["learning.warmup=x"], "learning.warmup must be a whole number"),
        (
            "base: digits\ngrids: {sizes: [3, 8]}\n",
            (),
            "grids.sizes must each divide the next, but 3 does not divide 8",
        ),
    ],
)
def test_a_mistake_of_a_config_is_that_of_the_file_in_which_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mine: str, changes, said: str
):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "base.yaml", "base: digits\nlearning:\n  warmup: -1\n")
    with pytest.raises(UserError) as caught:
        load_config(write(tmp_path / "my.yaml", mine), changes)
    assert str(caught.value).removeprefix(f"{tmp_path}/").startswith(said)
