"""What a plan asks for, and what it says of mistakes."""

from collections.abc import Callable

import pytest
from small_plan import PLAN

from distmgcd.comparison.comparison_plan import SET_BY_PLAN, Sampling
from distmgcd.comparison.read_plan import plan_names, read_plan
from distmgcd.config.cost import update_cost
from distmgcd.errors import UserError


@pytest.mark.parametrize("name", plan_names())
def test_every_plan_of_the_package_can_be_read(name: str):
    plan = read_plan(name)
    assert not plan.warnings
    if plan.tuning is None:
        assert next(iter(plan.variants)) == "today" and not plan.variants["today"].settings and plan.features
        return
    assert {"multigrid", "single", "data", "persistent", "persistent-bank", "noise"} <= plan.variants.keys()


def test_every_run_costs_as_much_as_whole_updates_fit_into_the_budget(written):
    plan = read_plan(written(updates=50, space={"langevin.num_steps": {"grid": [2, 9]}}))
    seen = set()
    for variant in plan.variants.values():
        for number in (1, 2):
            config = plan.trial(variant, plan.parameters(variant, number))
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
    first, second = ([plan.parameters(v, number) for v in plan.variants.values()] for number in (1, 2))
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
        ({"trails": 3}, "There is no setting 'trails'"),
        ({"updates": 0}, "updates must be a whole number from 1 up, but is 0"),
        ({"seeds": []}, "seeds must be a list of whole numbers, one at least, but is []"),
        ({"seeds": [1, -2]}, "line 6: seeds must be a list"),
        ({"variants": {"a": {"judged": "bnk"}}}, "variants.a.judged must be one of samples, bank, but is 'bnk'"),
        ({"variants": {"a": 3}}, "variants.a must hold settings, but is 3"),
        (
            {"sampling": []},
            "sampling must be a list of {times: 1, start: climb}, but is []; its default is [{'times': 1, ",
        ),
        ({"sampling": [{"tims": 2}]}, "setting 'sampling.0.tims' (did you mean 'times'?)"),
        ({"tuning_seed": True}, "tuning_seed must be a whole number from 0 to 2^63 - 1, but is True"),
        ({"validation": True}, "validation must be a number above 0 and below 1, or null, but is True"),
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


RECIPES = {
    "tuning": "none",
    **dict.fromkeys(("num_trials", "tuning_seed", "validation", "space", "sampling")),  # left out
    "variants": {"today": {}, "longer": {"settings": {"langevin.num_steps": 9}}},
}


@pytest.fixture
def recipes(written) -> Callable[..., str]:
    """A plan without tuning, changed at top-level keys, in a file."""
    return lambda **changes: written(**RECIPES | changes)


def test_a_plan_without_tuning_has_final_runs_only(recipes):
    plan = read_plan(recipes(updates=50))
    assert (plan.tuning, plan.num_trials, plan.validation, list(map(str, plan.sampling))) == (
        None,
        0,
        0.0,
        ["1x steps"],
    )
    today, longer = (plan.final(variant, {}, seed=2) for variant in plan.variants.values())
    assert today.learning.num_updates == 50 > longer.learning.num_updates and today.data.validation == 0.0
    assert not plan.warnings


def test_recipes_may_be_chosen_by_a_part_of_the_training_images(recipes):
    plan = read_plan(recipes(validation=0.25))
    assert plan.final(plan.variants["today"], {}, seed=2).data.validation == 0.25


def test_what_a_plan_costs_is_said_before_it_starts(recipes, written):
    plan = read_plan(recipes(updates=50))
    costs = [
        c.learning.num_updates * update_cost(c) for c in (plan.final(v, {}, seed=1) for v in plan.variants.values())
    ]
    assert f"Plan plan: 4 runs of up to {costs[0]:.1e} multiply-adds".replace("e+0", "e") in plan.cost_line
    assert f"each, {2 * sum(costs):.1e} in all".replace("e+0", "e") in plan.cost_line
    assert "Plan plan: 8 trials and 8 final runs of up to " in read_plan(written()).cost_line


def test_costs_that_are_not_equal_are_told_unless_that_is_asked_for(recipes):
    (warning,) = read_plan(recipes(updates=3)).warnings
    assert (
        "a run of longer costs 0.80 of what a run of the plan plan may cost" in warning and "raise `updates`" in warning
    )
    plan = read_plan(recipes(updates=3, equal_cost=False))
    assert not plan.warnings
    assert {plan.final(variant, {}, seed=1).learning.num_updates for variant in plan.variants.values()} == {3}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_trials": 3}, "With tuning: none nothing is tried and chosen, so leave num_trials out"),
        ({"space": {"data.noise": {"uniform": [0, 1]}}}, "so leave space out"),
        ({"variants": {"a": {"space": {"data.noise": {"uniform": [0, 1]}}}}}, "so leave space out"),
        ({"sampling": [{"times": 1}, {"times": 2}]}, "nothing chooses one of 2 ways to sample; give one"),
        ({"equal_cost": "yes please"}, "equal_cost "),
        ({"variants": {"a": {"settings": {"langevin.num_steps": 900}}}}, "less than one update of a"),
    ],
)
def test_a_mistake_in_a_plan_without_tuning_is_told_with_its_line(recipes, changes: dict, words: str):
    with pytest.raises(UserError, match=r"plan.yaml, line \d+: ") as caught:
        read_plan(recipes(**changes))
    assert words in str(caught.value)


def test_a_plan_with_tuning_names_its_trials(written):
    with pytest.raises(UserError, match="num_trials is missing"):
        read_plan(written(num_trials=None))


@pytest.mark.parametrize("path", sorted(SET_BY_PLAN))
def test_what_a_plan_gives_to_all_runs_is_not_set_and_silently_lost(written, path: str):
    setting = {path: 3}
    for changes in ({"settings": setting}, {"variants": {"a": {"settings": setting}}}):
        with pytest.raises(UserError, match=rf"line \d+: {path} cannot be set here: a run has it from the "):
            read_plan(written(**changes))
    with pytest.raises(UserError, match=f"^{path} cannot be changed here: a run has it from the "):
        read_plan(written(), [f"{path}=3"])


def test_a_plan_that_is_none_is_told_with_those_there_are():
    with pytest.raises(UserError, match="There is no comparison 'digitz'.* digits"):
        read_plan("digitz")
    assert "digits" in plan_names() and PLAN
