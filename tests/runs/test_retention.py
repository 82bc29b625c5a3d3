"""Which checkpoints stay, and which one is the best."""

import json
from pathlib import Path

import pytest
from tiny_runs import Stopped, debug, records_of, stop_after, tiny_config

import distmgcd
from distmgcd.errors import UserError
from distmgcd.evaluation.distances.measure import Distances, SampleDistances
from distmgcd.runs import checkpoint, retention
from distmgcd.runs.run_folder import Run
from distmgcd.runs.store import Store
from distmgcd.training import results

# The best of the first eight updates is 3, the next best 5.
SCORES = {1: 0.9, 2: 0.8, 3: 0.1, 4: 0.7, 5: 0.2, 6: 0.6, 7: 0.5, 8: 0.55}


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch):
    """Evaluations give the distances above to grid 8, and their opposites to grid 2."""
    measure, updates = SampleDistances.__call__, iter(range(1, 9))

    def made_up(self, sets):
        if (update := next(updates, None)) is None:
            return measure(self, sets)
        mean = {"2": 1 - SCORES[update], "8": SCORES[update]}
        return {"swd": Distances(mean, dict.fromkeys(mean, 0.0))}

    monkeypatch.setattr(SampleDistances, "__call__", made_up)


CHANGES = ("learning.num_updates=8", "checkpoint.every=1", "evaluate.every=1", "checkpoint.keep=2")


def kept(folder: Path) -> list[int]:
    return [checkpoint.update_of(name) for name in checkpoint.names(Run.open(str(folder / "run")).store)]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (("checkpoint.keep_best=1", "checkpoint.metric=swd/8"), [3, 7, 8]),
        (("checkpoint.keep_best=2", "checkpoint.metric=swd/8"), [3, 5, 7, 8]),
        (("checkpoint.keep_best=1", "checkpoint.metric=swd/2"), [1, 7, 8]),
        (("checkpoint.keep_best=0",), [7, 8]),
    ],
)
def test_the_newest_and_the_best_stay(tmp_path: Path, measured, changes: tuple, expected: list[int]):
    debug(tmp_path, *CHANGES, *changes)
    assert kept(tmp_path) == expected
    if "checkpoint.metric=swd/8" in changes:
        run = str(tmp_path / "run")
        assert distmgcd.load(run, which="best", device="cpu").update == 3
        assert distmgcd.load(run, device="cpu").update == 3, "what the run ended with"
        assert distmgcd.load(run, which="newest", device="cpu").update == 8
        assert distmgcd.load(run, which="7", device="cpu").update == 7
        assert distmgcd.load(run, which="update_000007", device="cpu").update == 7


def test_only_what_is_older_than_a_roll_back_and_worth_it_is_not_written_over(tmp_path: Path, measured):
    debug(tmp_path, *CHANGES, "checkpoint.keep=9")
    store = Run.open(str(tmp_path / "run")).store

    def stays(update: int, new: float | None, *, num_retries: int = 1, keep_best: int = 1) -> bool:
        progress, found = checkpoint.Progress(update, num_retries), {"swd": {"8": new}} if new else {}
        return retention.stays(store, progress, found, keep_best=keep_best, metric="swd/8")

    assert stays(3, 0.3) and stays(3, None) and not stays(3, 0.05)
    assert not stays(3, 0.3, num_retries=0) and not stays(3, 0.3, keep_best=0)
    assert not stays(5, 0.3) and stays(5, 0.3, keep_best=2)
    store.write("result_000007.json", b"{}")
    assert stays(7, 0.01)


def test_a_store_that_is_out_of_reach_for_a_while_costs_a_checkpoint_and_not_the_run(tmp_path: Path, monkeypatch):
    stays, asked = retention.stays, []

    def out_of_reach_at_first(*args, **how) -> bool:
        asked.append(args)
        if len(asked) == 1:
            raise OSError("gone")
        return stays(*args, **how)

    monkeypatch.setattr(retention, "stays", out_of_reach_at_first)
    result = debug(tmp_path)
    assert result["update"] == 6 and len(asked) > 1
    assert any("could not be written (gone)" in record.get("event", "") for record in records_of(tmp_path))


def test_checkpoints_carry_the_distances_that_the_log_states(tmp_path: Path):
    debug(tmp_path, "evaluate.every=4", "checkpoint.keep=9")
    store = Run.open(str(tmp_path / "run")).store
    found = {checkpoint.update_of(name): checkpoint.read(store, name).measured for name in checkpoint.names(store)}
    stated = {record["update"]: {"swd": record["swd"]} for record in records_of(tmp_path) if "swd" in record}
    assert found == {2: {}, **stated} and stated.keys() == {4, 6}


def test_a_run_cut_in_its_last_evaluation_has_its_last_checkpoint_and_scores_it(tmp_path: Path, monkeypatch):
    def cut(training):
        training.saver.settle()
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(results, "evaluate", cut)
        with pytest.raises(Stopped):
            debug(tmp_path)
    store = Run.open(str(tmp_path / "run")).store
    assert checkpoint.newest(store).progress.update == 6 and checkpoint.newest(store).measured == {}
    result = debug(tmp_path)
    assert checkpoint.newest(store).measured == {"swd": result["swd"]["samples"]}


def test_the_mean_over_grids_is_the_metric_and_nan_is_the_worst():
    assert retention.score({"2": 0.1, "8": 0.3}, "swd") == pytest.approx(0.2)
    assert retention.score({"2": 0.1, "8": 0.3}, "swd/8") == 0.3
    assert retention.score({"2": 0.1}, "swd/8") is None and retention.score(None, "swd") is None
    assert retention.score({"2": float("nan"), "8": 0.3}, "swd") == float("inf")


def write_scores(folder: Path, values: dict[int, float | None]) -> Store:
    for update, value in values.items():
        path = folder / "checkpoints" / checkpoint.name_of(update)
        path.mkdir(parents=True)
        (path / "state.json").write_text(json.dumps({"swd": value and {"2": value}}))
    return Store(str(folder))


def test_a_damaged_checkpoint_of_a_later_update_does_not_push_out_the_one_just_written(tmp_path: Path):
    store = write_scores(tmp_path, {2: None, 4: None, 6: None})
    retention.prune(store, 1, update=4)
    assert checkpoint.names(store) == ["update_000004", "update_000006"]


def test_what_a_killed_process_left_is_removed_with_the_next_checkpoint(tmp_path: Path):
    store = write_scores(tmp_path, {2: 0.1})
    for name in ("update_000003.unfinished", "update_000001.discarded", "mine"):
        (tmp_path / "checkpoints" / name).mkdir()
    retention.prune(store, 1, update=2)
    assert store.names("checkpoints") == ["mine", "update_000002"]


def test_the_best_that_is_damaged_is_skipped_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    debug(tmp_path, "evaluate.every=2", "checkpoint.keep=9", "checkpoint.metric=swd/8")
    store = Run.open(str(tmp_path / "run")).store
    order = sorted(retention.scores(store, "swd/8").items(), key=lambda item: item[1])
    (tmp_path / "run" / "checkpoints" / order[0][0] / "ema.safetensors").write_bytes(b"")
    assert retention.best(store, "swd/8").name == order[1][0]
    assert order[0][0] in caplog.text and "using the next best" in caplog.text


def test_a_checkpoint_that_is_not_there_is_told_with_those_that_are(command, tmp_path: Path):
    with pytest.raises(Stopped):
        debug(tmp_path, show=stop_after(5))
    run = str(tmp_path / "run")
    for which, words in (("3", "give end, newest, best, update_000002, update_000004"), ("best", "set evaluate.every")):
        status, _, err = command("sample", run, "--checkpoint", which, "--out", tmp_path / "x.png", "--cpu")
        assert status == 2 and words in err and err.count("\n") == 1
    status, out, _ = command("sample", run, "--num", 1, "--checkpoint", "2", "--out", tmp_path / "x.png", "--cpu")
    assert status == 0 and "(update 2, seed 0)" in out


def test_where_all_are_damaged_load_says_so(tmp_path: Path):
    debug(tmp_path)
    for file in (tmp_path / "run" / "checkpoints").glob("*/ema.safetensors"):
        file.write_bytes(b"")
    with pytest.raises(UserError, match="Every checkpoint of the run .* is damaged"):
        distmgcd.load(str(tmp_path / "run"))


def test_a_metric_that_is_none_is_a_mistake():
    with pytest.raises(UserError, match="checkpoint.metric must be one of swd, swd/2, swd/8, fd, but is 'swd/4'"):
        tiny_config("checkpoint.metric=swd/4")


# What a finished run ends with


def of_end(folder: Path) -> tuple[dict, int]:
    """Its result, and the update of the model that load takes."""
    result = json.loads((folder / "run" / "result.json").read_text())
    return result, distmgcd.load(str(folder / "run"), device="cpu").update


def test_a_run_ends_with_its_best_model_and_says_so(tmp_path: Path, measured):
    debug(tmp_path, *CHANGES, "checkpoint.metric=swd/8", "evaluate.untrained=false")
    result, update = of_end(tmp_path)
    assert update == 3 and result["ended_with"] == {"checkpoint": "update_000003", "metric": "swd/8"}
    assert result["swd"]["newest"]["8"] == SCORES[8] and result["swd"]["samples"]["8"] != SCORES[8]
    assert "of update 3, the best of the run's evaluations by swd/8" in result["protocol"]["chosen"]
    (said,) = [r["event"] for r in records_of(tmp_path) if "clearly better" in r.get("event", "")]
    assert said.startswith("The model of update 3 is clearly better than that of the last update 8 (swd/8 0.1 against")
    evaluations = [r["update"] for r in records_of(tmp_path) if "swd" in r]
    assert evaluations == list(range(1, 9)), "the log has what was measured at each update, and nothing twice"


def test_a_finished_run_shows_the_samples_of_the_model_that_it_ended_with(tmp_path: Path, measured):
    debug(tmp_path, *CHANGES, "checkpoint.metric=swd/8", "evaluate.untrained=false")
    from distmgcd.evaluation.pictures.sheet import save_sheet

    save_sheet(distmgcd.load(str(tmp_path / "run"), device="cpu").sample(8, seed=1), tmp_path / "again.png")
    assert (tmp_path / "run" / "samples.png").read_bytes() == (tmp_path / "again.png").read_bytes()


def test_a_run_that_is_to_end_with_its_newest_does(tmp_path: Path, measured):
    debug(tmp_path, *CHANGES, "checkpoint.metric=swd/8", "checkpoint.end_with=newest", "evaluate.untrained=false")
    result, update = of_end(tmp_path)
    assert update == 8 and "ended_with" not in result and "newest" not in result["swd"]


@pytest.mark.parametrize(("changes", "update"), [((), 8), (("learning.num_updates=9",), 9)])
def test_runs_without_that_record_and_runs_that_go_on_give_their_newest(
    tmp_path: Path, measured, changes: tuple, update: int
):
    debug(tmp_path, *CHANGES, "checkpoint.metric=swd/8", "evaluate.untrained=false")
    file = tmp_path / "run" / "result.json"
    if changes:  # trained further, and cut before its new end
        with pytest.raises(Stopped):
            debug(tmp_path, *CHANGES, "checkpoint.metric=swd/8", "learning.num_updates=10", show=stop_after(10))
    else:  # of an older version
        file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != "ended_with"}))
    assert distmgcd.load(str(tmp_path / "run"), device="cpu").update == update


@pytest.mark.parametrize(
    ("spreads", "expected"),
    [((0.05, 0.05), "update_000003"), ((0.3, 0.2), None), ((None, 0.1), "update_000003"), ((None, 0.3), None)],
)
def test_the_best_is_clearly_better_beyond_the_spreads_of_both(tmp_path: Path, spreads: tuple, expected: str | None):
    """A checkpoint of an older version does not say its spread; that of the end stands for it."""
    for update, swd, spread in ((3, 0.1, spreads[0]), (8, 0.55, spreads[1])):
        folder = tmp_path / "checkpoints" / f"update_{update:06d}"
        folder.mkdir(parents=True)
        state = {"swd": {"8": swd}} | ({} if spread is None else {"swd_spread": {"8": spread}})
        (folder / "state.json").write_text(json.dumps(state))
    assert retention.clearly_best(Store(str(tmp_path)), "swd", end="update_000008") == expected
    assert retention.clearly_best(Store(str(tmp_path)), "swd", end="update_000003") is None
    assert retention.clearly_best(Store(str(tmp_path)), "swd", end="update_000009") is None, "it was not measured"


def test_what_was_evaluated_between_two_checkpoints_is_kept_if_it_is_the_best(tmp_path: Path, measured):
    debug(tmp_path, *CHANGES, "checkpoint.every=8", "checkpoint.keep=1", "checkpoint.metric=swd/8")
    assert kept(tmp_path) == [3, 8]
