"""What a sweep leaves behind as data: results.parquet, best.yaml, best_samples.png."""

import io
import json
import random
from dataclasses import replace
from pathlib import Path

import made_trials
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_trials import MadeSweep, by_fd, diverged, finished, many
from rich.console import Console

import distmgcd
from distmgcd.cli.terminal.sweep_display import table_of
from distmgcd.config import load_config
from distmgcd.runs import strict_json
from distmgcd.runs.store import Store
from distmgcd.sweep import ranking
from distmgcd.sweep.plan import Budget
from distmgcd.sweep.trial import Trial
from distmgcd.sweep.write_results import write_results


def written(folder: Path, trials: list[Trial], sweep: MadeSweep | None = None) -> Store:
    store = Store(str(folder))
    sweep = sweep or MadeSweep()
    write_results(store, sweep, sweep.with_configs(trials))
    return store


def column_type(store: Store, name: str) -> pa.DataType:
    return pq.read_schema(store.path("results.parquet")).field(name).type


@pytest.mark.parametrize("trials", [[], [Trial(name="t", state="waiting")], many(60, num_parameters=12)], ids=len)
def test_every_trial_is_a_row(tmp_path: Path, trials: list[Trial]):
    rows = pq.read_table(written(tmp_path, trials).path("results.parquet")).to_pylist()
    assert [
        (row["name"], row["state"], row["objective"], row["updates"], json.loads(row["knobs"])) for row in rows
    ] == [(t.name, t.state, t.objective, t.updates, json.loads(strict_json.dumps(t.parameters))) for t in trials]
    assert [[tuple(entry.values()) for entry in row["history"]] for row in rows] == [list(t.history) for t in trials]


def test_every_parameter_is_a_column_of_its_own_in_the_type_of_its_values(tmp_path: Path):
    parameters = [
        {"whole": 3, "number": 1, "word": "a", "list": [0.5, 2], "mixed": "a", "rare": True, "void": None},
        {"whole": 4, "number": 0.5, "word": None, "list": [1.0], "mixed": [1], "void": None},
    ]
    store = written(tmp_path, [finished(f"t{n}", 0.1, parameters=found) for n, found in enumerate(parameters)])
    types = {
        "whole": pa.int64(),
        "number": pa.float64(),
        "word": pa.string(),
        "list": pa.list_(pa.float64()),
        "mixed": pa.string(),
        "rare": pa.bool_(),
    }
    assert {name: column_type(store, f"knob.{name}") for name in types} == types
    table = pq.read_table(store.path("results.parquet"))
    assert table["knob.mixed"].to_pylist() == ['"a"', "[1]"] and table["knob.rare"].to_pylist() == [True, None]
    assert table["swd.8"].to_pylist() == [0.15000000000000002] * 2 and table["swd_spread.2"].to_pylist() == [0.001] * 2


def test_the_file_says_of_which_sweep_it_is_and_what_was_measured(tmp_path: Path):
    store = written(tmp_path, [finished("t", 0.1)], MadeSweep(name="two", objective="swd/8"))
    metadata = pq.read_schema(store.path("results.parquet")).metadata
    assert metadata[b"distmgcd.version"].decode() == distmgcd.__version__
    assert b"1000 fresh chains" in metadata[b"distmgcd.protocol"]
    facts = json.loads(metadata[b"distmgcd.sweep"])
    assert (facts["name"], facts["base"], facts["objective"]) == ("two", "digits", "swd/8")
    assert facts["space"] == {"langevin.step_size": "0.1 to 8, by its logarithm"} and facts["num_updates"] == 500


BY_FD = [by_fd("bad", 12.345, swd=0.01), by_fd("good", 7.5, swd=0.02), diverged("worse")]


def test_a_sweep_by_fd_is_ranked_by_it_and_says_in_which_features(tmp_path: Path):
    """The trial that is worse by fd is better by swd."""
    store = written(tmp_path, BY_FD, MadeSweep(objective="fd"))
    assert [trial.name for trial in ranking.ranked(BY_FD)] == ["good", "bad", "worse"]
    assert ranking.spread_of(BY_FD[0], "fd") == 0.25 and ranking.with_spread(BY_FD[0], "fd") == "12.35 ± 0.25"
    assert [trial.name for trial in ranking.pareto_front(BY_FD, ranking.gradient_evaluations)] == ["good"]
    table = pq.read_table(store.path("results.parquet"))
    assert table["fd.FD-Random"].to_pylist() == [12.345, 7.5, None] and table["objective"].to_pylist()[1] == 7.5
    header = store.read("best.yaml").decode().splitlines()
    assert header[0].startswith("# good, the best of 3 trials")
    assert header[1] == (
        "# FD-Random, Frechet distance of samples at the finest grid: 7.5 ± 0.25 (deviation over draws of samples)."
    )
    console = Console(file=io.StringIO(), width=150, record=True)
    console.print(table_of(BY_FD, objective="fd"))
    text = console.export_text()
    assert text.startswith("FD-Random, Frechet distance of samples at the finest grid: the best")
    assert text.index("│ good ") < text.index("│ bad ") and "7.5 ± 0.25" in text and "FID" not in text


def test_best_yaml_trains_with_the_best_settings_on_all_training_images(tmp_path: Path):
    best = finished("good", 0.02, parameters={"langevin.step_size": [0.5, 2.0, 1.0], "langevin.num_steps": 7})
    written(tmp_path, [finished("bad", 0.03), best, diverged("worse", objective=0.001)])
    config = load_config(str(tmp_path / "best.yaml"))
    assert (config.langevin.step_size, config.langevin.num_steps) == ((0.5, 2.0, 1.0), 7)
    assert (config.data.validation, config.learning.num_updates, config.watch.max_retries) == (0.0, 500, 3)
    header = [line for line in (tmp_path / "best.yaml").read_text().splitlines() if line.startswith("#")]
    assert header[0] == "# good, the best of 3 trials (2 finished, 1 diverged) of the sweep made of digits."
    assert header[1].endswith("mean over grids: 20.0 ± 1.5 (deviation over draws of samples).")


def test_best_yaml_trains_as_long_as_its_base_and_says_how_long_the_trial_did(tmp_path: Path):
    short = ("learning.num_updates=60", "learning.warmup=10")
    sweep = MadeSweep(budget=Budget(updates=60, samples=1000), of_trials=short)
    written(tmp_path, [replace(finished("t", 0.02), updates=60)], sweep)
    config, text = load_config(str(tmp_path / "best.yaml")), (tmp_path / "best.yaml").read_text()
    assert (config.learning.num_updates, config.learning.warmup) == (500, 50)
    assert (
        "# The trial trained for 60 updates, 10 of them warming up; this file trains for 500, 50 of them warming up, "
        "for which its settings have not been tried.\n"
    ) in text
    assert "20.0 ± 1.5" in text
    assert ", 500 updates; the trial had 60." in (tmp_path / "report.html").read_text()


def test_the_last_settings_of_a_population_are_said_to_be_the_last(tmp_path: Path):
    written(tmp_path, [finished("t", 0.02, run=str(tmp_path / "trials" / "t.3"))])
    assert (
        "# Its settings changed while it trained; these are the last of them.\n" in (tmp_path / "best.yaml").read_text()
    )


def test_failures_that_trials_went_on_after_are_counted_in_the_report(tmp_path: Path):
    trials = [finished(f"t{n}", 0.1, failures=(f"Its process {n} died.",) * n) for n in range(3)]
    store = written(tmp_path, trials)
    assert pq.read_table(store.path("results.parquet"))["failures"].to_pylist()[1] == ["Its process 1 died."]
    text = store.read("report.html").decode()
    assert "Failures that trials went on after" in text and "Its process 1 died." in text and "t1, t2" in text
    assert ranking.failures(trials) == [("Its process 1 died.", 3, ["t1", "t2"])]


def test_a_comment_of_best_yaml_stays_one_whatever_the_sweep_is_called(tmp_path: Path):
    written(tmp_path, [finished("t", 0.02)], MadeSweep(name="two\nlines: [", base_name="digits\r\nx"))
    assert load_config(str(tmp_path / "best.yaml")).learning.num_updates == 500


def test_there_is_no_best_of_trials_without_result(tmp_path: Path):
    written(tmp_path, [finished("t", 0.02)])
    store = written(tmp_path, [diverged("t", objective=0.01), Trial(name="u", state="waiting")])
    assert store.names("") == ["report.html", "results.parquet"]


def test_a_pruned_trial_is_the_best_only_if_none_came_to_its_end(tmp_path: Path):
    pruned = replace(finished("pruned", 0.01), state="pruned")
    assert [trial.name for trial in ranking.the_best([finished("t", 0.5), pruned], 2)] == ["t"]
    written(tmp_path, [pruned, diverged("d")])
    assert "No trial came to its end; this one was pruned." in (tmp_path / "best.yaml").read_text()


def test_a_damaged_sheet_is_left_out(tmp_path: Path):
    run = tmp_path / "trials" / "t"
    run.mkdir(parents=True)
    (run / "samples.png").write_bytes(b"\x89PNG\r\n\x1a\nhalf")
    (run / "result.json").write_text('{"swd": ')
    store = written(tmp_path, [finished("t", 0.1, run=str(run))])
    assert not store.exists("best_samples.png") and b"<img" not in store.read("report.html")


def test_the_front_is_what_no_other_trial_beats():
    rng = random.Random(0)
    for _ in range(20):
        trials = [
            replace(
                made_trials.finished(f"t{n}", rng.choice([0.1, 0.2, 0.3, 0.4])),
                gradient_evaluations=rng.choice([0, 10, 20, 30]),
                state=rng.choice(["finished", "finished", "pruned", "diverged"]),
            )
            for n in range(12)
        ]
        front = ranking.pareto_front(trials, ranking.gradient_evaluations)
        candidates = [t for t in trials if t.state == "finished" and t.gradient_evaluations]
        expected = {t.name for t in candidates if not any(beats(other, t) for other in candidates)}
        assert {trial.name for trial in front} == expected
        assert [t.gradient_evaluations for t in front] == sorted(t.gradient_evaluations for t in front)


def beats(a: Trial, b: Trial) -> bool:
    """At least as good in both, better in one."""
    ours, theirs = (a.objective, a.gradient_evaluations), (b.objective, b.gradient_evaluations)
    return ours != theirs and ours[0] <= theirs[0] and ours[1] <= theirs[1]


def test_reasons_that_differ_in_their_numbers_are_counted_together():
    trials = [diverged(f"t{n}", reason=f"Grid 8x8 diverged at update {n}: gap {0.1 * n:.3g}.") for n in range(3)]
    found = ranking.reasons([*trials, diverged("u", reason=""), finished("v", 0.1)])
    assert [(state, count) for state, _, count in found] == [("diverged", 3), ("diverged", 1)]
    assert found[0][1] == trials[0].reason


def test_the_spread_of_a_mean_is_at_most_the_mean_of_spreads():
    trial = finished("t", 0.1)
    assert ranking.spread_of(trial, "swd") == pytest.approx(0.0015) and ranking.spread_of(trial, "swd/8") == 0.002
    assert ranking.spread_of(trial, "swd/16") is None


def test_the_table_on_the_terminal_shows_the_best_first_and_takes_odd_words():
    console = Console(file=io.StringIO(), width=120, record=True)
    trials = [
        diverged("d", parameters={"a.norm": "[bold]x[/x]"}),
        finished("b", 0.2, parameters={"a.norm": "none"}),
        finished("a", 0.1),
    ]
    console.print(table_of(trials))
    text = console.export_text()
    assert text.index("│ a ") < text.index("│ b ") < text.index("│ d ") and "[bold]x[/x]" in text
