"""What a plan asks for, and what it says of mistakes."""

import pytest
from small_plan import PLAN

from distmgcd.comparison.file import plan_names, read_plan
from distmgcd.comparison.plan import Sampling
from distmgcd.config.cost import update_cost
from distmgcd.errors import UserError


@pytest.mark.parametrize("name", plan_names())
def test_every_plan_of_the_package_can_be_read(name: str):
    plan = read_plan(name)
    assert {"multigrid", "single", "data", "persistent", "persistent-bank", "noise"} <= plan.variants.keys()


def test_every_run_costs_as_much_as_whole_updates_fit_into_the_budget(written):
    plan = read_plan(written(updates=50, space={"langevin.num_steps": {"grid": [2, 9]}}))
    seen = set()
    for variant in plan.variants.values():
        for number in (1, 2):
            config = plan.trial(variant, plan.knobs(variant, number))
            cost = config.learning.num_updates * update_cost(config)
            assert plan.budget - update_cost(config) < cost <= plan.budget
            seen.add(config.learning.num_updates)
    assert 50 in seen and len(seen) == 4  # the base's own; with one grid, with 9 steps, with both


def test_trials_see_no_held_out_image_and_finals_all_training_images(written):
    plan = read_plan(written())
    variant = plan.variants["multigrid"]
    trial, final = plan.trial(variant, {}), plan.final(variant, {}, seed=2)
    assert (trial.data.validation, trial.seed, trial.evaluate.num_samples) == (0.25, 7, 9)
    assert (final.data.validation, final.seed, final.evaluate.num_samples) == (0.0, 2, 10)
    assert trial.evaluation_sizes == plan.final(plan.variants["single"], {}, seed=2).evaluation_sizes == (2, 8)


def test_methods_are_tried_with_their_own_settings_and_then_with_the_same_draws(written):
    plan = read_plan(written())
    first, second = ([plan.knobs(v, number) for v in plan.variants.values()] for number in (1, 2))
    assert first == [{}] * 4 and all(knobs == second[0] != {} for knobs in second)


def test_a_change_of_the_command_beats_the_plans_settings(written):
    plan = read_plan(written(settings={"learning.warmup": 2}), ["learning.warmup=3"])
    assert plan.trial(plan.variants["multigrid"], {}).learning.warmup == 3


def test_a_way_to_sample_changes_steps_and_start_and_nothing_else(written):
    plan = read_plan(written())
    config = plan.trial(plan.variants["multigrid"], {"langevin.num_steps": [2, 3]})
    found = Sampling(times=4, start="noise").applied(config)
    assert found.per_grid("langevin.num_steps") == [8, 12] and found.start.of_samples == "noise"
    undone = {"langevin": config.langevin, "start": config.start}
    assert found.model_copy(update=undone) == config
    assert Sampling().applied(config).start.of_samples == "climb"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trails": 3}, "no 'trails' here"),
        ({"updates": 0}, "updates should be greater than or equal to 1, but is 0"),
        ({"seeds": []}, "seeds "),
        ({"tuning_seed": True}, "tuning_seed must be a number, but is True"),
        ({"validation": True}, "validation must be a number, but is True"),
        ({"space": {"langevin.step_sise": {"uniform": [1, 2]}}}, "did you mean 'langevin.step_size'"),
        ({"space": {"langevin.step_size": [1, 2]}}, "langevin.step_size must be one of {uniform"),
        ({"variants": {"a": {"settings": {"start.kind": "single"}}}}, "start.kind=single learns the finest grid only"),
        ({"variants": {"a": {"judged": "bank"}}}, "a has no bank to be judged by"),
        ({"base": "digit"}, "There is no preset 'digit'"),
        ({"variants": {"a": {"settings": {"langevin.num_steps": 900}}}}, "less than one update of a"),
    ],
)
def test_a_mistake_is_told_with_its_line(written, changes: dict, words: str):
    with pytest.raises(UserError, match=r"plan.yaml, line \d+: ") as caught:
        read_plan(written(**changes))
    assert words in str(caught.value)


def test_a_plan_that_is_none_is_told_with_those_there_are():
    with pytest.raises(UserError, match="There is no comparison 'digitz'.* digits"):
        read_plan("digitz")
    assert "digits" in plan_names() and PLAN
