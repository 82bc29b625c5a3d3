"""Sweep files: what they say, and that every mistake is told by file and line before anything starts."""

from dataclasses import replace
from pathlib import Path

import pytest
from places import ROOT
from tiny_runs import TINY

from distmgcd.config import load_config
from distmgcd.errors import UserError
from distmgcd.launch import start_sweep
from distmgcd.sweep.file import read_sweep
from distmgcd.sweep.plan import Sweep, to_yaml

HEAD = f"""\
base: {TINY}
budget: {{updates: 12, evaluations: 3, samples: 32}}
num_trials: 4
"""
STEP = "space:\n  langevin.step_size: {uniform: [0.5, 2]}\n"
TUNE_CONFIGS = sorted((ROOT / "tune_configs").glob("*.yaml"))


def read(folder: Path, text: str, *changes: str, **options) -> Sweep:
    file = folder / "try.yaml"
    file.write_text(text)
    return read_sweep(str(file), changes, **options)


def refused(folder: Path, text: str, *changes: str) -> str:
    with pytest.raises(UserError) as error:
        read(folder, text, *changes)
    return str(error.value).removeprefix(f"{folder}/")


def test_a_trial_is_the_base_with_its_parameters_and_the_sweeps_budget(tmp_path: Path):
    sweep = read(tmp_path, HEAD + STEP)
    config = sweep.config_of(sweep.point(1))
    assert config.langevin.step_size == sweep.point(1)["langevin.step_size"]
    assert (config.learning.num_updates, config.evaluate.every, config.checkpoint.every) == (12, 4, 4)
    assert (config.evaluate.num_samples, config.evaluate.num_draws, config.evaluate.sizes) == (32, 1, (2, 8))
    assert config.network == load_config(str(TINY)).network
    assert config.watch.max_retries == 0


def test_a_sweep_chooses_on_validation_images_unless_told_otherwise(tmp_path: Path):
    assert read(tmp_path, HEAD + STEP).config_of({}).data.validation == 0.2
    assert read(tmp_path, HEAD + STEP, "data.validation=0.1").config_of({}).data.validation == 0.1
    assert read(tmp_path, HEAD + STEP + "validation: 0\n").config_of({}).data.validation == 0


@pytest.mark.parametrize("where", ["base", "budget", "space"])
def test_a_warm_up_that_is_longer_than_a_trial_is_shortened_and_that_is_said(tmp_path: Path, where: str):
    text = HEAD.replace("updates: 12", "updates: 12, warmup: 50") if where == "budget" else HEAD
    space = "space:\n  learning.warmup: {choice: [50, 60]}\n" if where == "space" else STEP
    sweep, shown = read(tmp_path, text + space, *(["learning.warmup=50"] if where == "base" else [])), []
    assert sweep.config_of(sweep.point(1)).learning.warmup_updates == 1
    start_sweep._check_data(sweep, shown.append)
    assert any("does not fit into 12 updates" in event["text"] for event in shown)


def test_the_best_settings_are_trained_as_the_base_is(tmp_path: Path):
    """As long, too, with the warm-up of that length, though trials are shorter."""
    changes = ["learning.ema=0.5", "learning.num_updates=500", "learning.warmup=50"]
    text = HEAD.replace("updates: 12", "updates: 12, warmup: 3") + STEP
    sweep, base = read(tmp_path, text, *changes), load_config(str(TINY), changes)
    assert (sweep.config_of({}).learning.num_updates, sweep.config_of({}).learning.warmup) == (12, 3)
    preset = sweep.preset_of({"langevin.step_size": 0.7})
    assert preset.langevin.step_size == 0.7
    assert (preset.data, preset.learning, preset.evaluate, preset.watch) == (
        base.data,
        base.learning,
        base.evaluate,
        base.watch,
    )


def test_the_best_settings_are_trained_no_shorter_than_the_trials_were(tmp_path: Path):
    assert read(tmp_path, HEAD + STEP).preset_of({}).learning.num_updates == 12  # tiny.yaml has 6


def test_by_fd_trials_and_the_best_settings_measure_in_the_named_network(tmp_path: Path):
    for objective, features in (
        ("fd", "efficientnet-lite0"),
        ("{metric: fd}", "efficientnet-lite0"),
        ("{metric: fd, features: random}", "random"),
        ("{metric: fd, features: mine.pth, sizes: [8]}", "mine.pth"),
    ):
        sweep = read(tmp_path, HEAD + STEP + f"objective: {objective}\n")
        assert (sweep.objective, sweep.features) == ("fd", features)
        for config in (sweep.config_of({}), sweep.preset_of({})):
            assert (config.evaluate.features, config.checkpoint.metric) == (features, "fd")
        assert replace(read(tmp_path, to_yaml(sweep)), name=sweep.name) == sweep
    assert read(tmp_path, HEAD + STEP + "objective: fd\n", "evaluate.features=pixels").features == "pixels"


def test_by_swd_fd_is_measured_only_where_it_is_asked_for(tmp_path: Path):
    plain, beside = (read(tmp_path, HEAD + STEP + text) for text in ("", "objective: {features: random}\n"))
    assert plain.features is None and plain.config_of({}).evaluate.features is None
    assert "features" not in to_yaml(plain).replace("features: null", "")  # an older sweep.yaml is the same sweep
    assert beside.objective == "swd" and beside.config_of({}).evaluate.features == "random"
    assert beside.preset_of({}).evaluate.features is None


def test_settings_and_changes_go_to_all_trials_and_changes_win(tmp_path: Path):
    text = HEAD + "settings: {learning.ema: 0.5, langevin.temperature: 1e-3, watch.max_gap: .5}\n" + STEP
    config = read(tmp_path, text, "learning.ema=0.9").config_of({})
    assert (config.learning.ema, config.langevin.temperature, config.watch.max_gap) == (0.9, 1e-3, 0.5)


def test_a_base_beside_the_sweep_file_is_found(tmp_path: Path):
    (tmp_path / "mine.yaml").write_text(TINY.read_text())
    assert read(tmp_path, HEAD.replace(str(TINY), "mine.yaml") + STEP).base["grids.sizes"] == [2, 8]


def test_what_is_written_of_a_sweep_reads_back(tmp_path: Path):
    text = (
        HEAD
        + "scheduler: {kind: asha, reduction: 2}\nobjective: {metric: swd/2, sizes: [2, 4]}\nspace:\n"
        + (
            "  one_of:\n"
            "    - {grids.sizes: [2, 8], langevin.num_steps: {int: [1, 3]}}\n"
            "    - {grids.sizes: [8], network.channels: [6]}\n"
            "  langevin.step_size: {per_grid: {loguniform: [0.5, 2]}}\n"
        )
    )
    sweep = read(tmp_path, text, "seed=5")
    assert replace(read(tmp_path, to_yaml(sweep)), name=sweep.name) == sweep


def test_the_number_of_trials_of_a_grid_is_that_of_its_points(tmp_path: Path):
    text = (
        HEAD.replace("num_trials: 4\n", "search: grid\n")
        + "space: {seed: {choice: [1, 2]}, data.noise: {grid: [0, 1]}}\n"
    )
    assert read(tmp_path, text).num_trials == 4
    assert read(tmp_path, text, num_trials=3).num_trials == 3
    assert read(tmp_path, text, num_trials=9).num_trials == 4
    assert [read(tmp_path, text).point(n)["seed"] for n in (1, 2, 3, 4)] == [1, 1, 2, 2]


@pytest.mark.parametrize("file", TUNE_CONFIGS, ids=lambda file: file.stem)
def test_the_sweeps_that_come_with_the_package_are_in_order(file: Path):
    sweep = read_sweep(str(file))
    assert sweep.num_trials >= 4 and sweep.preset_of(sweep.point(1))
    assert replace(sweep, num_trials=1).config_of(sweep.point(1))


def test_there_are_sweeps_for_every_parameter():
    names = {file.stem for file in TUNE_CONFIGS}
    assert names >= {"step_size", "num_steps", "grid_schedule", "temperature", "joint", "population", "smoke"}


@pytest.mark.parametrize(
    ("body", "line", "said"),
    [
        ("space:\n  langevin.stepsize: {uniform: [1, 2]}\n", 5, "(did you mean 'langevin.step_size'?)"),
        ("space:\n  langevin.step_size: {unifrom: [1, 2]}\n", 5, "(did you mean 'uniform'?)"),
        ("space:\n  langevin.step_size: {uniform: [2, 1]}\n", 5, "langevin.step_size uniform must go from low to high"),
        ("space:\n  langevin.step_size: 3\n", 5, "langevin.step_size must be one of {uniform"),
        (
            "space:\n  langevin.num_steps: {choice: [2, true]}\n",
            5,
            "langevin.num_steps must be a whole number from 1 up",
        ),
        (STEP + "objective: {metric: swd, sizes: [true]}\n", 6, "sizes must be a list of sizes"),
        ("space: {}\n", 4, "The space is empty"),
        ("space:\n", 4, "space must hold"),
        ("space: [1]\n", 4, "space must hold"),
        (STEP + "searhc: grid\n", 6, "(did you mean 'search'?)"),
        (STEP + "search: bayes\n", 6, "search must be one of random, grid, tpe, but is 'bayes'"),
        (STEP + "search: grid\n", 5, "langevin.step_size has no end of them"),
        (STEP + "scheduler: hyperband\n", 6, "scheduler must be one of asha, pbt, none"),
        (STEP + "scheduler: {kind: asha, gracious: 2}\n", 6, "(did you mean 'grace'?)"),
        (
            STEP + "scheduler: {kind: asha, every: 2}\n",
            6,
            "no setting 'scheduler.every'; scheduler has kind, g",
        ),
        (STEP + "scheduler: {kind: asha, grace: 3}\n", 2, "more than the grace of 3"),
        (STEP + "scheduler: {kind: pbt, quantile: 0.7}\n", 6, "quantile must be a number from 0 to 0.5"),
        (STEP + "scheduler: {kind: pbt, every: 3}\n", 2, "more than 3"),
        (STEP + "scheduler: pbt\nsearch: tpe\n", 7, "pbt draws its population"),
        ("scheduler: pbt\nspace:\n  network.norm: {choice: [none, layer]}\n", 6, "network.norm cannot change"),
        ("scheduler: pbt\nspace:\n  one_of: [{seed: 1}]\n", 6, "knows no one_of"),
        (STEP + "objective: fid\n", 6, "objective must be one of swd, swd/2, swd/8, fd, but is 'fid'"),
        (
            STEP + "objective: {metric: swd, size: [2]}\n",
            6,
            "(did you mean 'sizes'?); objective has metric, sizes, features",
        ),
        (STEP + "objective: {metric: swd, sizes: [3]}\n", 5, "evaluate.sizes must divide the finest grid"),
        (STEP + "objective: {metric: swd, sizes: []}\n", 6, "sizes must be a list of sizes"),
        (STEP + "objective:\n  metric: fd\n  features: 3\n", 8, "features must be one of efficientnet-lite0, incep"),
        (STEP + "objective: {metric: fd, features: null}\n", 6, "or a weight file, but is None"),
        (
            STEP + "objective: {metric: fd, feature: random}\n",
            6,
            "(did you mean 'features'?)",
        ),
        ("space:\n  evaluate.features: {choice: [random, pixels]}\n", 5, "the sweep sets it by objective.features"),
        (
            "objective:\n  metric: fd\n  sizes: [8]\nspace:\n  grids.sizes: {choice: [[2, 8], [16]]}\n",
            4,
            "all schedules must end with the same one, but they end with 8 and 16",
        ),
        (STEP + "seed: -1\n", 6, "seed must be a whole number from 0 up, but is -1"),
        (STEP + "validation: 2\n", 6, "validation must be a fraction from 0 to 1"),
        (STEP + "settings: {learning.emma: 1}\n", 6, "(did you mean 'learning.ema'?)"),
        (STEP + "settings: {learning.ema: 7}\n", 6, "learning.ema must be a fraction from 0 to 1, but is 7"),
        (STEP + "seed: 1\nseed: 2\n", 7, "'seed' stands here for the second time (first in line 6)"),
        ("space:\n  learning.num_updates: {int: [5, 9]}\n", 5, "the sweep sets it by budget.updates"),
        ("space:\n  data.noise: {per_grid: {uniform: [0, 1]}}\n", 5, "data.noise has one value for all grids"),
        ("space:\n  langevin.step_size: {uniform: [-1, 2]}\n", 5, "langevin.step_size must be a number above 0"),
        ("space:\n  learning.ema:\n    choice:\n      - 0.9\n      - 9\n", 8, "learning.ema must be a fraction"),
        ("space:\n  langevin.num_steps: {uniform: [1, 5]}\n", 5, "langevin.num_steps must be a whole number"),
        ("space:\n  one_of: []\n", 5, "one_of must be a list of bundles"),
        ("space:\n  one_of:\n    - {seed: 1}\n    - {sede: 2}\n", 7, "(did you mean 'seed'?)"),
        ("space:\n  one_of:\n    - {seed: 1}\n  seed: {int: [1, 2]}\n", 6, "stands in the space beside one_of"),
    ],
)
def test_a_mistake_is_told_by_its_line(tmp_path: Path, body: str, line: int, said: str):
    sentence = refused(tmp_path, HEAD + body)
    assert sentence.startswith(f"try.yaml, line {line}: ") and said in sentence and sentence.endswith(".")


def test_an_impossible_schedule_is_told_by_its_line(tmp_path: Path):
    body = "objective: {sizes: [8]}\nspace:\n  grids.sizes:\n    choice:\n      - [2, 8]\n      - [3, 8]\n"
    sentence = refused(tmp_path, HEAD + body)
    assert sentence.startswith("try.yaml, line 9: grids.sizes must each divide the next, but 3 does not divide 8")


def test_a_bundle_that_does_not_fit_together_is_told_by_its_line(tmp_path: Path):
    body = "objective: {sizes: [8]}\nspace:\n  one_of:\n    - {grids.sizes: [8]}\n    - grids.sizes: [4, 8]\n"
    sentence = refused(tmp_path, HEAD + body + "      network.channels: [[4], [4], [4]]\n")
    assert sentence.startswith("try.yaml, line 8: network.channels has 3 lists for 2 grids")


def test_schedules_are_only_compared_at_sizes_that_are_named(tmp_path: Path):
    body = "space:\n  grids.sizes: {choice: [[2, 8], [8]]}\n"
    assert refused(tmp_path, HEAD + body).startswith("try.yaml, line 1: objective must name the sizes")
    assert read(tmp_path, HEAD + body + "objective: {sizes: [4, 8]}\n").sizes == (4, 8)


@pytest.mark.parametrize(
    ("head", "line", "said"),
    [
        ("budget: {updates: 10, evaluations: 4, samples: 8}", 2, "evaluations must divide updates"),
        ("budget: {updates: 10}", 2, "budget.samples is missing"),
        ("budget: {updates: ten, samples: 8}", 2, "updates must be a whole number from 1 up, but is 'ten'"),
        ("budget: {update: 10}", 2, "(did you mean 'updates'?)"),
        ("budget: 5", 2, "budget must hold settings, but is 5; it has budget.updates, budget.warmup"),
    ],
)
def test_a_mistake_in_the_budget_is_told_by_its_line(tmp_path: Path, head: str, line: int, said: str):
    sentence = refused(tmp_path, f"base: {TINY}\n{head}\n{STEP}")
    assert sentence.startswith(f"try.yaml, line {line}: ") and said in sentence


def test_a_base_that_is_none_is_told_by_its_line(tmp_path: Path):
    text = "budget: {updates: 12, samples: 8}\nbase: didgits\n" + STEP
    assert refused(tmp_path, text).startswith("try.yaml, line 2: There is no preset 'didgits' (did you mean 'digits'?)")
    assert "line 1: base is missing" in refused(tmp_path, "budget: {updates: 12, samples: 8}\n" + STEP)


def test_a_wrong_change_is_told(tmp_path: Path):
    assert "learning.emma" in refused(tmp_path, HEAD + STEP, "learning.emma=1")


def test_a_file_that_is_none_is_told(tmp_path: Path):
    assert "not valid YAML" in refused(tmp_path, "a: [1")
    assert "must hold" in refused(tmp_path, "- 1\n")
    with pytest.raises(UserError, match="cannot be read"):
        read_sweep(str(tmp_path / "none.yaml"))
