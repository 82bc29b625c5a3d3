"""The space of a sweep and the ways to take points from it."""

import math
import statistics
from random import Random

import pytest

from distmgcd.sweep.domains import Choice, Interval, PerGrid, WrongDomain, read_domain
from distmgcd.sweep.space import Space, draw, endless_domains, grid_points, moved, random_point, words

RATE, STEPS = read_domain({"loguniform": [1e-4, 1e-2]}), read_domain({"int": [5, 30, 5]})
SPACE = Space(
    {"learning.learning_rate": RATE, "langevin.num_steps": STEPS, "langevin.step_size": PerGrid(RATE)}, sizes=(2, 4, 8)
)


def test_a_point_is_a_function_of_seed_and_number():
    assert random_point(SPACE, seed=1, number=7) == random_point(SPACE, seed=1, number=7)
    assert random_point(SPACE, seed=1, number=7) != random_point(SPACE, seed=1, number=8)
    assert random_point(SPACE, seed=1, number=7) != random_point(SPACE, seed=2, number=7)


def test_a_draw_does_not_depend_on_what_else_is_searched():
    alone = Space({"learning.learning_rate": RATE})
    for number in range(1, 10):
        rate = random_point(alone, seed=0, number=number)["learning.learning_rate"]
        assert rate == random_point(SPACE, seed=0, number=number)["learning.learning_rate"]


def test_draws_of_loguniform_have_the_mean_and_deviation_of_uniform_logarithms():
    logs = [math.log10(random_point(SPACE, seed=0, number=n)["learning.learning_rate"]) for n in range(1, 2001)]
    assert all(-4 <= log <= -2 for log in logs)
    assert statistics.mean(logs) == pytest.approx(-3, abs=4 * (2 / math.sqrt(12)) / math.sqrt(2000))
    assert statistics.stdev(logs) == pytest.approx(2 / math.sqrt(12), rel=0.05)


def test_draws_of_int_reach_every_step_and_nothing_else():
    found = {random_point(SPACE, seed=0, number=n)["langevin.num_steps"] for n in range(1, 200)}
    assert found == {5, 10, 15, 20, 25, 30}


def test_per_grid_draws_one_value_for_each_grid_of_the_trials_own_schedule():
    space = Space({"langevin.step_size": PerGrid(RATE)}, ({"grids.sizes": [2, 8]}, {"grids.sizes": [2, 4, 8]}))
    for number in range(1, 30):
        point = random_point(space, seed=0, number=number)
        assert len(point["langevin.step_size"]) == len(point["grids.sizes"])
        assert len(set(point["langevin.step_size"])) == len(point["grids.sizes"])


def test_the_schedule_is_chosen_first_wherever_it_stands():
    space = Space({"langevin.step_size": PerGrid(RATE), "grids.sizes": Choice(([4, 8], [8]), each=False)}, sizes=(2,))
    point = random_point(space, seed=0, number=1)
    assert len(point["langevin.step_size"]) == len(point["grids.sizes"])


def test_a_bundle_brings_all_of_its_settings_and_its_own_domains():
    bundles = (
        {"grids.sizes": [8], "langevin.num_steps": STEPS},
        {"grids.sizes": [4, 8], "network.channels": [[1], [2]]},
    )
    points = [random_point(Space({}, bundles), seed=0, number=n) for n in range(1, 30)]
    assert {frozenset(point) for point in points} == {
        frozenset({"grids.sizes", "langevin.num_steps"}),
        frozenset({"grids.sizes", "network.channels"}),
    }
    assert all(isinstance(point.get("langevin.num_steps", 0), int) for point in points)


def test_grid_points_are_all_combinations_once():
    space = Space(
        {"seed": Choice((0, 1), each=False), "langevin.num_steps": PerGrid(Choice((5, 9), each=True))}, sizes=(2, 4)
    )
    points = list(grid_points(space))
    assert len(points) == 8 and len({str(point) for point in points}) == 8
    assert points[0] == {"seed": 0, "langevin.num_steps": [5, 5]}
    assert points[1] == {"seed": 0, "langevin.num_steps": [5, 9]}


def test_grid_points_of_bundles_of_different_size():
    bundles = ({"grids.sizes": [8]}, {"grids.sizes": [4, 8], "langevin.num_steps": Choice((5, 6, 7), each=False)})
    assert len(list(grid_points(Space({}, bundles)))) == 4


def test_values_written_grid_come_in_turn_under_random_search():
    space = Space(
        {"seed": Choice((0, 1, 2), each=True), "data.noise": Choice((0.1, 0.2), each=True), "watch.max_gap": RATE}
    )
    points = [random_point(space, seed=0, number=n) for n in range(1, 13)]
    counts = {(p["seed"], p["data.noise"]) for p in points[:6]}
    assert len(counts) == 6 and [p["seed"] for p in points[:6]] == [p["seed"] for p in points[6:]]
    assert len({p["watch.max_gap"] for p in points}) == 12


def test_endless_domains_are_named():
    assert endless_domains(SPACE) == ["learning.learning_rate", "langevin.step_size"]


def test_a_move_stays_inside_and_changes_every_number():
    parameters = random_point(SPACE, seed=0, number=1)
    for seed in range(50):
        after = moved(SPACE, parameters, Random(seed), resample=0.0)
        assert after.keys() == parameters.keys()
        ratio = after["learning.learning_rate"] / parameters["learning.learning_rate"]
        assert any(ratio == pytest.approx(factor, rel=1e-4) for factor in (0.8, 1.25))
        assert after["langevin.num_steps"] in STEPS.values()
        assert all(1e-4 <= value <= 1e-2 for value in after["langevin.step_size"])


def test_a_move_of_a_small_whole_number_is_a_whole_step():
    steps = read_domain({"int": [1, 3]})
    assert {steps.moved(2, Random(seed)) for seed in range(20)} == {1, 3}


def test_numbers_without_a_point_are_numbers():
    assert read_domain({"loguniform": ["1e-5", "1e-3"]}) == Interval(1e-5, 1e-3, log=True)
    assert read_domain({"choice": ["1e-5", "relu", ["1e-3", 2]]}).options == (1e-5, "relu", [1e-3, 2])


def test_every_form_reads_back_what_it_writes():
    forms = [{"uniform": [0.5, 2]}, {"loguniform": [0.5, 2]}, {"int": [1, 9, 2]}, {"choice": [1, 2]}, {"grid": ["a"]}]
    for form in [*forms, *({"per_grid": form} for form in forms)]:
        assert read_domain(read_domain(form).form()) == read_domain(form)


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"unifrom": [0, 1]}, "has no form 'unifrom' (did you mean 'uniform'?)"),
        ({"uniform": [2, 1]}, "must go from low to high, but goes from 2 to 1"),
        ({"uniform": [1]}, "must be [lowest, highest], but is [1]"),
        ({"uniform": [1, "much"]}, "must be [lowest, highest]"),
        ({"uniform": [1, float("inf")]}, "must be [lowest, highest]"),
        ({"loguniform": [0, 1]}, "must begin above 0"),
        ({"int": [1.5, 3]}, "whole numbers"),
        ({"int": [5, 1]}, "from low to high"),
        ({"int": [1, 5, 0]}, "steps of 1 or more"),
        ({"choice": []}, "at least one value"),
        ({"grid": 3}, "at least one value"),
        ({"per_grid": {"per_grid": {"uniform": [0, 1]}}}, "another per_grid"),
        ({"uniform": [0, 1], "choice": [1]}, "must be one of"),
        (0.5, "must be one of {uniform: [0.5, 2]}"),
    ],
)
def test_a_domain_that_is_none_says_why(form, said: str):
    with pytest.raises(WrongDomain) as error:
        read_domain(form)
    assert said in str(error.value)


def test_a_space_is_told_in_words():
    assert words(SPACE)["langevin.step_size"] == "for every grid 0.0001 to 0.01, by its logarithm"
    bundles = Space({}, ({"grids.sizes": [8]}, {"grids.sizes": [4, 8]}))
    assert words(bundles) == {"grids.sizes": "[8]; or [4, 8]"}


def test_draw_asks_for_every_value_by_name():
    asked = []
    draw(SPACE, lambda name, domain: asked.append(name) or domain.examples()[0])
    assert asked == ["learning.learning_rate", "langevin.num_steps"] + [f"langevin.step_size[{s}]" for s in (2, 4, 8)]
