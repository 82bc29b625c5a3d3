"""A whole comparison of tiny runs: what it trains, chooses and writes, and that it goes on where it was."""

import json
import statistics
from pathlib import Path

import pytest
from PIL import Image
from tiny_runs import tiny_config

from distmgcd.comparison.markdown_table import markdown
from distmgcd.comparison.read_plan import read_plan
from distmgcd.comparison.run_comparison import compare
from distmgcd.comparison.score_run import Runs, name_of
from distmgcd.config import load_config
from distmgcd.config.cost import in_words, update_cost
from distmgcd.errors import UserError
from distmgcd.launch import start_run
from distmgcd.runs.store import Store
from distmgcd.workers.stop import Stopped


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of all runs that are trained, as they are."""
    names, debug = [], start_run.debug

    def watched(config, *, name, **how):
        names.append(name)
        return debug(config, name=name, **how)

    monkeypatch.setattr(start_run, "debug", watched)
    return names


def run(plan, folder: Path, **how) -> dict:
    only = how.pop("only", None)
    return compare(plan, Runs(f"{folder}/runs", use_gpu=False, **how), Store(str(folder)), only=only)


def test_a_comparison_from_its_plan_to_its_table(written, tmp_path: Path, trained: list[str]):
    plan, folder = read_plan(written()), tmp_path / "found"
    results = run(plan, folder)
    assert len(trained) == len(set(trained))  # the bank shares the trials of persistent
    assert results == json.loads((folder / "results.json").read_text()) and not results["unfinished"]
    methods = results["methods"]
    assert list(methods) == ["multigrid", "single", "persistent", "bank"]
    for name, outcome in methods.items():
        assert len(outcome["trials"]) == 2 and [final["seed"] for final in outcome["finals"]] == [1, 2]
        assert_the_best_was_chosen(outcome)
        knobs = outcome["trials"][outcome["chosen"]["trial"]]["knobs"]
        finals = [plan.final(plan.variants[name], knobs, seed=seed) for seed in plan.seeds]
        assert [final["run"] for final in outcome["finals"]] == [name_of(config) for config in finals]
    assert_the_table_is_that_of_the_results(folder, methods)
    with Image.open(folder / "samples.png") as sheet:
        assert sheet.height > 5 * 64 and sheet.width > 16 * 64  # held-out images and four methods

    before = list(trained)
    assert run(plan, folder) == results and trained == before


def assert_the_best_was_chosen(outcome: dict) -> None:
    if outcome["judged"] == "bank":
        found = [trial["bank"]["swd"] for trial in outcome["trials"]]
    else:
        found = [of_way["swd"] for trial in outcome["trials"] for of_way in trial["samples"].values()]
        assert len(found) == 4
    assert outcome["chosen"]["validation"] == min(statistics.mean(swd.values()) for swd in found)


def assert_the_table_is_that_of_the_results(folder: Path, methods: dict) -> None:
    table = (folder / "table.md").read_text()
    single = methods["single"]
    values = [1000 * final["samples"][single["chosen"]["way"]]["swd"]["8"] for final in single["finals"]]
    assert f"| {statistics.mean(values):.1f} ± {statistics.stdev(values):.1f} |" in table
    bank = [1000 * final["bank"]["swd"]["2"] for final in methods["bank"]["finals"]]
    assert f"| bank | {statistics.mean(bank):.1f} ± {statistics.stdev(bank):.1f} |" in table
    assert "data against itself" in table and "the bank itself" in table


def test_recipes_are_trained_as_they_are_and_their_table_says_what_they_cost(
    written, tmp_path: Path, trained: list[str]
):
    left_out = dict.fromkeys(("num_trials", "tuning_seed", "validation", "space", "sampling"))
    variants = {
        "today": {},
        "noise": {"settings": {"data.noise": 0.3}},
        "dear": {"settings": {"langevin.num_steps": 9}},
    }
    test = {"samples": 24, "draws": 1}
    plan = read_plan(written(tuning="none", **left_out, test=test, features="random", variants=variants))
    results = run(plan, tmp_path)
    assert len(trained) == 3 * 2 and results == run(plan, tmp_path) and len(trained) == 6
    methods, table = results["methods"], (tmp_path / "table.md").read_text()
    for name, outcome in methods.items():
        config = plan.final(plan.variants[name], {}, seed=1)
        final, cost = outcome["finals"][0], config.learning.num_updates * update_cost(config)
        assert (outcome["trials"], final["multiply_adds"], final["images"]) == ([], cost, 8 * final["updates"])
        assert f" | {final['updates']} | {final['images']} | {in_words(cost)} | " in table
    assert "| noise | data.noise=0.3 | 2-8 | 2, 2 | 1x steps | " in table
    assert f"Costs are not equal: of what a run may cost, it costs in dear {cost / plan.budget:.2f};" in table
    excess = {name: statistics.mean(map(excess_of, outcome["finals"])) for name, outcome in methods.items()}
    share = excess["noise"] / excess["today"]
    assert "| today | " in table and f"| noise | {excess['noise']:.4g} ± " in table and f" | {share:.2f} |\n" in table
    with Image.open(tmp_path / "samples.png") as sheet:
        assert sheet.height > 4 * 64


def excess_of(final: dict) -> float:
    samples, data = (final["features"][of]["values"]["FD-Random"] for of in ("samples", "data"))
    return samples - data


def test_a_comparison_that_was_stopped_goes_on(written, tmp_path: Path, trained: list[str]):
    plan = read_plan(written(variants={"multigrid": {}}))
    with pytest.raises(Stopped):
        run(plan, tmp_path, stop=lambda: len(trained) == 2)
    results = run(plan, tmp_path)
    assert len(set(trained)) == 4 and len(trained) == 5  # the second was begun twice
    whole = run(plan, tmp_path / "other")
    for found in (results, whole):  # but for the clock
        for one in found["methods"]["multigrid"]["trials"] + found["methods"]["multigrid"]["finals"]:
            one.pop("seconds")
    assert results == whole


def test_what_was_measured_of_a_run_stays_when_more_is_asked_of_it(written, tmp_path: Path, trained: list[str]):
    plan = read_plan(written())
    config, (one, other) = plan.trial(plan.variants["multigrid"], {}), plan.sampling
    runs = Runs(str(tmp_path), use_gpu=False)
    first = runs.measure(config, [one])["samples"]
    assert runs.read(config, [other]) is None and runs.read(config, []) is not None
    both = runs.measure(config, [other])["samples"]
    assert list(both) == [str(one), str(other)] and both[str(one)] == first[str(one)] != both[str(other)]
    assert runs.read(config, [one, other])["samples"] == both


def test_methods_may_be_run_apart(written, tmp_path: Path):
    plan = read_plan(written(seeds=[1], num_trials=1))
    results = run(plan, tmp_path, only=["single"])
    assert list(results["methods"]) == ["single"] and "Not yet run to their end: multigrid" in markdown(results)
    with pytest.raises(UserError, match="'singel' is none, did you mean|'singel' is none.*single"):
        run(plan, tmp_path, only=["singel"])


def test_a_method_that_diverges_is_told_and_not_tried_again(written, tmp_path: Path, trained: list[str]):
    wild = {"settings": {"watch.max_gap": 1e-30}}
    plan = read_plan(written(seeds=[1], variants={"wild": wild, "multigrid": {}}))
    results = run(plan, tmp_path)
    assert results["methods"]["wild"]["chosen"] is None and "diverged at update" in str(results["methods"]["wild"])
    assert "| wild (diverged) | - | - | - |" in (tmp_path / "table.md").read_text()
    before = list(trained)
    run(plan, tmp_path)
    assert trained == before


def test_the_command_writes_and_shows_the_table(written, tmp_path: Path, command):
    plan = written(seeds=[1], num_trials=1, sampling=[{"times": 1}], variants={"multigrid": {}})
    status, told, _ = command("compare", plan, "langevin.num_steps=1", "--cpu", "--storage-path", tmp_path)
    assert status == 0 and "| multigrid | " in told and told.rstrip().endswith("samples.png")
    assert (tmp_path / "plan" / "results.json").exists()


def test_a_run_keeps_its_name_when_a_setting_is_named_that_has_its_default():
    config = load_config("digits", [])
    assert name_of(config) == name_of(load_config("digits", ["speed.overlap=true", "watch.max_retries=3"]))
    assert name_of(config) != name_of(load_config("digits", ["speed.overlap=false"]))


def test_a_run_that_holds_another_config_is_neither_read_nor_gone_on_with(tmp_path: Path):
    """As after a change of a default, which no name shows."""
    config, runs = tiny_config("evaluate.num_samples=20"), Runs(str(tmp_path), use_gpu=False)
    runs.measure(config, [])
    assert runs.read(config, [])
    file = Path(runs.path(config)) / "config.yaml"
    file.write_text(file.read_text().replace("ema: 0.9", "ema: 0.8"))
    assert runs.read(config, []) is None
    with pytest.raises(UserError, match=r"holds a different config: learning.ema \(0.8"):
        runs.measure(config, [])
