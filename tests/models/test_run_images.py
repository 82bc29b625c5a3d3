"""A run goes by its images, not by their path."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tiny_runs import debug, tiny_config

from distmgcd.data import import_images
from distmgcd.errors import UserError
from distmgcd.evaluation.evaluate_run import evaluate_run
from distmgcd.evaluation.subject import Request
from distmgcd.launch.start_run import with_absolute_path
from distmgcd.runs import identity
from distmgcd.runs.run_folder import Run
from distmgcd.training import loop

SWD = ("swd",)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("images") / "digits.parquet"
    import_images("sklearn:digits", str(file))
    return file


@pytest.fixture
def moved(digits: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A run whose images have moved: the place they were, and where they are."""
    old, new = tmp_path / "old.parquet", tmp_path / "new.parquet"
    old.write_bytes(digits.read_bytes())
    debug(tmp_path, f"data.path={old}")
    old.rename(new)
    return old, new


def others(file: Path) -> Path:
    """As many images, in another order."""
    table = pq.read_table(file)
    pq.write_table(table.take(list(range(1, table.num_rows)) + [0]), file)
    return file


def path_of(folder: Path) -> str:
    return Run.open(str(folder / "run")).config().data.path


def test_the_same_images_at_another_path_continue_chains_with_the_run(moved: tuple[Path, Path], tmp_path: Path):
    old, new = moved
    shown = []
    debug(tmp_path, f"data.path={new}", show=shown.append)
    assert {"event": f"The images of the run are at {new} now (they were at {old})."} in shown
    assert path_of(tmp_path) == str(new)
    assert debug(tmp_path, f"data.path={new}", "learning.num_updates=7")["update"] == 7


def test_where_the_images_are_gone_the_sentence_says_that_another_path_will_do(moved, tmp_path: Path):
    with pytest.raises(UserError, match="does not exist .*; where the same images are now, data.path=PATH goes on"):
        debug(tmp_path, f"data.path={moved[0]}")


@pytest.mark.parametrize("same_path", [False, True])
def test_other_images_are_refused_whatever_their_path(moved, tmp_path: Path, same_path: bool):
    old, new = moved
    others(new)
    if same_path:
        new.rename(old)
    with pytest.raises(
        UserError, match="not those that the run .* was made with: 1438 training .*, but with other pix"
    ):
        debug(tmp_path, f"data.path={old if same_path else new}")
    assert path_of(tmp_path) == str(old)


@pytest.mark.parametrize(
    "setting",
    [
        "data.pad=2", "data.background=white", "data.validation=0.5", "data.leave_out_copies=true", "data.split=nope",
        "data.held_out=nope", "grids.sizes=[2,4]",
    ],
)  # fmt: skip
def test_a_setting_that_makes_other_images_is_named_itself(tmp_path: Path, setting: str):
    Run.at(str(tmp_path), "run").claim(
        with_absolute_path(tiny_config()),
        {"images": {"num": 1, "content": "x"}} | {"held_out": {"num": 1, "content": "x"}},
    )
    with pytest.raises(UserError, match=f"holds a different config: {setting.partition('=')[0]} "):
        debug(tmp_path, setting)


def test_the_settings_are_looked_at_before_the_images_where_both_differ(digits: Path, tmp_path: Path):
    debug(tmp_path, f"data.path={digits}")
    with pytest.raises(UserError, match=r"holds a different config: data.pad \(0 there, 2 now\); choose"):
        Run.at(str(tmp_path), "run").claim(
            tiny_config("data.path=elsewhere", "data.pad=2"),
            {key: {"num": 1, "content": "x"} for key in ("images", "held_out")},
        )


def test_an_older_run_notes_its_images_while_they_are_there(digits: Path, tmp_path: Path):
    copy = tmp_path / "copy.parquet"
    copy.write_bytes(digits.read_bytes())
    debug(tmp_path, f"data.path={digits}")
    record = tmp_path / "run" / identity.DATA_FILE
    noted = record.read_text()
    record.unlink()
    debug(tmp_path, f"data.path={digits}")
    assert record.read_text() == noted
    record.unlink()
    debug(tmp_path, f"data.path={copy}")
    assert record.read_text() == noted and path_of(tmp_path) == str(copy)


def test_an_older_run_whose_images_are_gone_goes_by_the_path(moved, tmp_path: Path):
    old, new = moved
    (tmp_path / "run" / identity.DATA_FILE).unlink()
    with pytest.raises(UserError, match="holds a different config: data.path"):
        debug(tmp_path, f"data.path={new}")


def test_a_run_that_nobody_claimed_with_its_images_notes_them_as_it_trains(digits: Path, tmp_path: Path):
    import torch

    from distmgcd.workers.collectives import LocalWorker

    run = Run.at(str(tmp_path), "run")
    run.claim(tiny_config(f"data.path={digits}"))  # as a trial of a sweep does
    assert identity.read_data_record(run.store) is None
    loop.train(run.config(), LocalWorker(torch.device("cpu")), run)
    assert identity.read_data_record(run.store)["images"]["num"] == 1438


def test_evaluate_takes_the_new_place_and_adds_to_what_was_measured(moved, tmp_path: Path):
    old, new = moved
    how = {"num": 20, "features": "pixels"}
    with pytest.raises(UserError, match="cannot be opened: .*; --data PATH says where they are now"):
        evaluate_run(str(tmp_path / "run"), Request(metrics=SWD, **how), use_gpu=False)
    evaluate_run(str(tmp_path / "run"), Request(metrics=("pr",), data=str(new), **how), use_gpu=False)
    newer = new.rename(tmp_path / "newer.parquet")
    record = evaluate_run(str(tmp_path / "run"), Request(metrics=("diversity",), data=str(newer), **how), use_gpu=False)
    assert {"pr", "diversity"} <= set(record["results"])
    others(newer)
    with pytest.raises(UserError, match="not those that the run .* was made with"):
        evaluate_run(str(tmp_path / "run"), Request(metrics=("pr",), data=str(newer), **how), use_gpu=False)
