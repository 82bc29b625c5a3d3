"""A grid that runs away is noticed by its own past, and a healthy one is left alone."""

import pytest
import torch

from distmgcd.config import Watch
from distmgcd.core.learning import METRICS
from distmgcd.runs.checkpoint import Progress
from distmgcd.training.divergence import WINDOW, Diverged, Past, check_growth, check_health, signs_of_trouble
from distmgcd.training.roll_back import is_again, lowered

# Mean gap and drift / noise of the 4x4 grid at every tenth update, from update 100 on, of a run on CIFAR-10 at 16x16
# with much noise. Its drift left the absolute bound at update 364.
RUN_AWAY = [
    (-0.055, 0.2), (-0.058, 0.2), (-0.057, 0.2), (-0.057, 0.3), (-0.06, 0.3), (-0.058, 0.3), (-0.053, 0.3),
    (-0.054, 0.4), (-0.06, 0.4), (-0.049, 0.4), (-0.055, 0.4), (-0.057, 0.5), (-0.046, 0.5), (-0.053, 0.5),
    (-0.058, 0.5), (-0.06, 0.6), (-0.056, 0.6), (-0.064, 0.7), (-0.076, 0.7), (-0.085, 0.8), (-0.1, 0.8), (-0.121, 0.9),
    (-0.189, 1.1), (-0.4, 1.6), (-0.868, 2.4), (-1.817, 3.4), (-5.177, 6.0), (-14.321, 11.2),
]  # fmt: skip
NOISE = 0.1  # deviation of the noise of a step there


def rows(gap: torch.Tensor, drift: torch.Tensor, **others: torch.Tensor) -> torch.Tensor:
    """[N, 1, len(METRICS)] of one grid, from [N] each."""
    columns = {"gradient_norm": torch.ones_like(gap), "saturation": torch.full_like(gap, 0.03)} | others
    columns |= {"energy_observed": gap, "energy_synthesised": torch.zeros_like(gap), "drift_squared": drift**2}
    return torch.stack([columns.get(name, torch.zeros_like(gap)) for name in METRICS], -1)[:, None]


def swinging(num_updates: int, *, swing: float = 0.2, mean: float = 0.0) -> torch.Tensor:
    return mean + swing * torch.randn(num_updates, generator=torch.Generator().manual_seed(0))


def first_alarm(history: torch.Tensor, *, log_every: int = 10, warmup: int = 0, **watch: float) -> tuple[int, str]:
    """The update, counted from 1, and the text; (0, "") without one."""
    past, first = Past(warmup=warmup), 1
    for metrics in history.split(log_every):
        last = first + len(metrics) - 1
        past.add(metrics, first_update=first)
        try:
            check_growth(past, update=last, sizes=(4,), watch=Watch(**watch))
        except Diverged as event:
            return event.update, str(event)
        first = last + 1
    return 0, ""


@pytest.mark.parametrize("log_every", [1, 10, 25])
def test_a_grid_that_runs_away_is_noticed_before_it_leaves_the_absolute_bounds(log_every: int):
    gaps, drifts = torch.tensor(RUN_AWAY).repeat_interleave(10, 0).unbind(-1)
    history = rows(gaps * (1 + 0.2 * swinging(len(gaps), swing=1.0)), drifts * NOISE)
    update, text = first_alarm(history, log_every=log_every)
    assert 330 <= 90 + update <= 350  # 15 to 30 updates earlier
    check_health(history[:update], first_update=1, sizes=(4,), watch=Watch())
    assert text.startswith(f"Grid 4x4 diverged at update {update}: mean energy gap -0.") and "its usual swing" in text


def test_a_frozen_grid_is_no_alarm():
    gaps, drifts = torch.tensor(RUN_AWAY).repeat_interleave(10, 0).unbind(-1)
    past = Past(warmup=0)
    past.add(rows(gaps, drifts * NOISE), first_update=1)
    with pytest.raises(Diverged):
        check_growth(past, update=len(gaps), sizes=(4,), watch=Watch())
    check_growth(past, update=len(gaps), sizes=(4,), watch=Watch(), frozen=(0,))


@pytest.mark.parametrize("log_every", [1, 10])
@pytest.mark.parametrize(
    ("gap", "drift"),
    [
        (swinging(600), torch.linspace(0.02, 0.15, 600)),  # drift grows eightfold while the grid learns
        (swinging(600, mean=-0.2), torch.linspace(0.02, 0.15, 600)),  # a gap that settles below zero
        (swinging(600) * torch.linspace(0.1, 1.0, 600), torch.linspace(0.02, 0.06, 600)),  # a swing that grows
        (swinging(600) - torch.linspace(0.0, 0.4, 600), torch.linspace(0.02, 0.06, 600)),  # a gap that creeps
        (swinging(600, swing=0.001) - 0.01 * (torch.arange(600) > 300), torch.linspace(0.001, 0.01, 600)),  # a tiny one
    ],
)
def test_a_healthy_grid_is_left_alone(gap: torch.Tensor, drift: torch.Tensor, log_every: int):
    assert first_alarm(rows(gap, drift), log_every=log_every) == (0, "")


def suddenly(before: float, after: float, *, length: int = 300, since: int = 200, until: int = 300) -> torch.Tensor:
    values = torch.full((length,), before)
    values[since:until] = after
    return values


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ({"gradient_norm": suddenly(2.0, 80.0)}, "gradient norm 80 over the last 10 updates (usually 2)."),
        ({"saturation": suddenly(0.5, 0.97)}, "97.0% of its samples' pixels at -1 or 1 (usually 50%)."),
    ],
)
def test_gradients_and_saturation_are_watched_too(others: dict, words: str):
    update, text = first_alarm(rows(swinging(300), suddenly(0.02, 0.02), **others))
    assert update == 200 + 2 * WINDOW and words in text


@pytest.mark.parametrize(
    "others", [{"gradient_norm": suddenly(2.0, 200.0, until=210)}, {"saturation": suddenly(0.0, 0.8)}]
)
def test_what_lasts_one_window_or_is_no_more_than_usual_of_data_is_no_alarm(others: dict):
    assert first_alarm(rows(swinging(300), suddenly(0.02, 0.02), **others)) == (0, "")


def test_only_the_grid_that_runs_away_is_named():
    healthy, ill = rows(swinging(300), suddenly(0.02, 0.02)), rows(suddenly(-0.1, -2.0), suddenly(0.02, 0.2))
    found = list(signs_of_trouble(torch.cat([healthy, ill, healthy], 1)))
    assert [sign.grid for sign in found] == [1]


BAD = {"gradient_norm": suddenly(2.0, 80.0)}


@pytest.mark.parametrize(
    ("how", "expected"),
    [({}, 220), ({"by_history": False}, 0), ({"max_retries": 0}, 0), ({"warmup": 240}, 0)],
)
def test_when_it_is_not_judged_by_the_past(how: dict, expected: int):
    """Without a way back nothing is gained, and 60 updates after the warm-up do not say what is usual."""
    assert first_alarm(rows(swinging(300), suddenly(0.02, 0.02), **BAD), **how)[0] == expected


def test_what_a_run_went_back_over_is_no_part_of_its_past():
    past = Past(warmup=0)
    past.add(rows(suddenly(0.0, 1.0), suddenly(0.1, 0.1)), first_update=1)
    past.forget_after(200)
    assert len(past.rows()) == 120 and past.rows()[..., 0].max() == 0  # of the 220 last ones


# Where a run goes back, and with what


def test_a_divergence_soon_after_the_last_one_is_the_same_trouble():
    before = Progress(retries_in_a_row=(0, 1), diverged_at=2621, went_back_to=2500)
    assert is_again(before, 2861, every=250) and is_again(before, 3621, every=250)
    assert not is_again(before, 3622, every=250) and not is_again(Progress(num_retries=1), 1, every=250)


def test_the_rate_is_lowered_of_one_grid():
    once = lowered(1.0, 1, 0.5, num_grids=3)
    assert once == (1.0, 0.5, 1.0) and lowered(once, 1, 0.5, num_grids=3) == (1.0, 0.25, 1.0)
    assert lowered(0.5, 0, 0.5, num_grids=2) == (0.25, 0.5)  # of a run of an older version, which lowered all
    assert lowered(1.0, 0, 0.5, num_grids=1) == 0.5
