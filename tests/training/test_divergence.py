"""A blow-up is an event with a name: told, undone, tried again with a smaller rate, given up in the end."""

from pathlib import Path

import pytest
import torch
from tiny_runs import debug, records_of, state_of

from distmgcd.config import Watch
from distmgcd.core.learning import METRICS
from distmgcd.evaluation.distances.measure import Distances, SampleDistances
from distmgcd.runs import checkpoint
from distmgcd.runs.run_folder import Run
from distmgcd.training import loop, roll_back, state
from distmgcd.training.divergence import Diverged, check_health
from distmgcd.training.state import Training

HEALTHY = {
    "energy_observed": -1.0,
    "energy_synthesised": 1.0,
    "drift_squared": 0.01,
    "saturation": 0.0,
    "gradient_norm": 1.0,
    "skipped": 0.0,
}


def metrics(num_updates: int = 4, **bad: tuple[int, int, float]) -> torch.Tensor:
    """Of healthy updates of two grids, but for bad = {metric: (update, grid, value)}."""
    values = torch.tensor([HEALTHY[name] for name in METRICS]).repeat(num_updates, 2, 1)
    for name, (update, grid, value) in bad.items():
        values[update, grid, METRICS.index(name)] = value
    return values


def check(values: torch.Tensor, **bounds: float) -> None:
    check_health(values, first_update=100, sizes=(4, 16), watch=Watch(**bounds))


def test_healthy_updates_pass():
    check(metrics())


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"skipped": (1, 1, 1.0)}, "Grid 16x16 diverged at update 101"),
        ({"skipped": (3, 0, 0.5)}, "Grid 4x4 diverged at update 103"),  # on one of two workers
        ({"energy_observed": (2, 0, float("nan"))}, "Grid 4x4 diverged at update 102: energy gap nan"),
        ({"energy_synthesised": (0, 1, float("inf"))}, "Grid 16x16 diverged at update 100"),
        (
            {"drift_squared": (2, 1, 2.25)},
            "Grid 16x16 diverged at update 102: energy gap -2 (bound 20), drift 1.5 rms a step (bound 1;",
        ),
        ({"drift_squared": (2, 1, float("nan"))}, "drift nan"),
        ({"energy_observed": (2, 1, 1000.0)}, "Grid 16x16 diverged at update 100: mean energy gap 248 (bound 20)"),
        ({"energy_observed": (2, 1, -1000.0)}, "mean energy gap -252 (bound 20)"),
    ],
)
def test_what_leaves_the_bounds_is_told_by_grid_update_and_number(bad: dict, words: str):
    with pytest.raises(Diverged) as event:
        check(metrics(**bad))
    assert words in str(event.value)


def test_a_frozen_grid_may_have_any_gap_but_its_chains_must_be_finite():
    far = metrics(energy_observed=(2, 1, -1000.0))
    check_health(far, first_update=100, sizes=(4, 16), watch=Watch(), frozen=(1,))
    with pytest.raises(Diverged):
        check_health(far, first_update=100, sizes=(4, 16), watch=Watch(), frozen=(0,))
    for bad in ({"energy_observed": (2, 1, float("nan"))}, {"drift_squared": (2, 1, 2.25)}, {"skipped": (2, 1, 1.0)}):
        with pytest.raises(Diverged, match="Grid 16x16"):
            check_health(metrics(**bad), first_update=100, sizes=(4, 16), watch=Watch(), frozen=(1,))


def test_a_gap_is_judged_by_its_mean_over_the_interval():
    check(metrics(energy_observed=(2, 1, 60.0)))
    with pytest.raises(Diverged, match="bound 1"):
        check(metrics(), max_gap=1.0)


# Whole runs

WILD = ("langevin.step_size=[1.4,300]", "langevin.clamp=none", "network.activation=relu")


def events_of(folder: Path) -> list[str]:
    return [record["event"] for record in records_of(folder) if "event" in record]


def test_a_step_size_that_no_rate_can_mend_is_given_up_with_advice(tmp_path: Path):
    with pytest.raises(Diverged) as end:
        debug(tmp_path, *WILD, "watch.max_retries=2")
    text = str(end.value)
    assert "Grid 8x8 diverged at update 1" in text and "bound 1;" in text
    assert "done so 3 times in a row" in text and "scaled by 1,0.25" in text and "lower langevin.step_size" in text
    one, two = events_of(tmp_path)
    assert (
        "Going back to the start with the learning rate of grid 8x8 scaled by 0.5." in one and "scaled by 0.25." in two
    )
    assert not (tmp_path / "run" / "checkpoints").exists() and not (tmp_path / "run" / "result.json").exists()


def test_a_rate_that_is_too_large_is_lowered_until_the_run_holds(tmp_path: Path):
    shown = []
    result = debug(
        tmp_path, "learning.learning_rate=100", "watch.rate_after_retry=1e-4", "watch.max_gap=3", show=shown.append
    )
    events = events_of(tmp_path)  # one per grid: each has its own rate
    assert [f"of grid {size}x{size} scaled by 0.0001" in event for size, event in zip((2, 8), events, strict=True)]
    assert all("bound 3" in event and event in [record.get("event") for record in shown] for event in events)
    assert result["num_retries"] == 2 and result["update"] == 6
    progress = checkpoint.newest(Run.open(str(tmp_path / "run")).store).progress
    assert progress.rate_scale == (1e-4, 1e-4) and progress.num_retries == 2


def test_a_run_that_goes_on_keeps_its_lowered_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rates = []
    make_method = roll_back.make_method
    for module in (state, roll_back):  # at the start, and after going back
        monkeypatch.setattr(
            module,
            "make_method",
            lambda config, *, rate_scale: rates.append(rate_scale) or make_method(config, rate_scale=rate_scale),
        )
    changes = ("learning.learning_rate=100", "watch.rate_after_retry=1e-4", "watch.max_gap=3")
    debug(tmp_path, *changes)
    (tmp_path / "run" / "result.json").unlink()
    debug(tmp_path, *changes)
    assert len(rates) == 4 and rates[0] == 1.0 and rates[2] == rates[3] == (1e-4, 1e-4)


@pytest.fixture
def cosmic_ray(monkeypatch: pytest.MonkeyPatch):
    """Make weights NaN before the given update, once or more often."""

    def strike(update: int, times: int = 1) -> None:
        learn, struck = loop.learn, []

        def learn_struck(learner, pixels, indices, at, method, **how):
            if at == update and len(struck) < times:
                struck.append(at)
                with torch.no_grad():
                    next(learner.model.grids[1].parameters()).fill_(float("nan"))
            return learn(learner, pixels, indices, at, method, **how)

        monkeypatch.setattr(loop, "learn", learn_struck)

    return strike


@pytest.mark.parametrize("log_every", [1, 100])
def test_a_nan_is_rolled_back_to_the_last_healthy_checkpoint(tmp_path: Path, cosmic_ray, monkeypatch, log_every: int):
    cosmic_ray(5)  # the sixth update
    found, roll_back = [], loop.roll_back

    def watched(training: Training, event: Diverged) -> None:
        roll_back(training, event)
        found.append({name: value.clone() for name, value in training.learner.model.state_dict().items()})
        assert training.progress.update == 4 and not training.pending

    monkeypatch.setattr(loop, "roll_back", watched)
    result = debug(tmp_path, f"log.every={log_every}", "checkpoint.keep=9")
    kept = state_of(tmp_path, checkpoint_name="update_000004")
    assert all(torch.equal(value, kept[f"model/{name}"]) for name, value in found[0].items())
    (event,) = events_of(tmp_path)
    assert "Grid 8x8 diverged at update 6: energy gap nan" in event and "back to the checkpoint of update 4" in event
    assert result["num_retries"] == 1 and result["update"] == 6


def test_trouble_that_comes_again_goes_back_to_an_earlier_checkpoint(tmp_path: Path, cosmic_ray):
    cosmic_ray(5, times=3)
    result = debug(tmp_path, "checkpoint.every=1", "checkpoint.keep=3")
    events = events_of(tmp_path)
    assert "to the checkpoint of update 5 with the learning rate of grid 8x8 scaled by 0.5." in events[0]
    assert "to the earlier checkpoint of update 4 with" in events[1] and "scaled by 0.25." in events[1]
    assert "to the earlier checkpoint of update 3 with" in events[2] and "scaled by 0.125." in events[2]
    assert result["num_retries"] == 3
    store = Run.open(str(tmp_path / "run")).store
    assert checkpoint.names(store) == ["update_000004", "update_000005", "update_000006"]
    progress = checkpoint.newest(store).progress  # of the last try: what was saved in the others is gone
    assert progress.rate_scale == (1.0, 0.125) and progress.retries_in_a_row == (0, 3)


def test_where_no_earlier_checkpoint_is_left_the_same_one_has_to_do(tmp_path: Path, cosmic_ray):
    cosmic_ray(4, times=2)
    debug(tmp_path, "checkpoint.keep=1")
    assert all("to the checkpoint of update 4 with" in event for event in events_of(tmp_path))


@pytest.fixture
def scores(monkeypatch: pytest.MonkeyPatch):
    """Evaluations find these distances, one after the other, and the last one again and again."""

    def give(*values: float) -> None:
        left = list(values)

        def made_up(self, sets) -> dict[str, Distances]:
            value = left.pop(0) if len(left) > 1 else left[0]
            return {"swd": Distances({"8": value}, {"8": 0.0})}

        monkeypatch.setattr(SampleDistances, "__call__", made_up)

    return give


def test_a_run_does_not_go_back_as_far_as_its_best_checkpoint_where_that_costs_most_of_it(
    tmp_path: Path, cosmic_ray, scores
):
    cosmic_ray(7, times=2)
    scores(0.1, 0.5)  # the checkpoint of update 1 is the best, and the only old one that is left
    debug(tmp_path, "learning.num_updates=8", "checkpoint.every=1", "checkpoint.keep=1", "evaluate.every=1")
    assert all("to the checkpoint of update 7 with" in event for event in events_of(tmp_path)[:2])


@pytest.mark.parametrize(("second", "stays"), [(0.5, True), (0.05, False)])
def test_the_best_checkpoint_is_not_written_over_by_a_worse_one_after_a_roll_back(
    tmp_path: Path, cosmic_ray, scores, second: float, stays: bool
):
    cosmic_ray(5, times=2)  # back to 4, then to 2; so 4 is passed again
    scores(0.1, second, 0.9)
    debug(tmp_path, "checkpoint.every=2", "evaluate.every=4")
    events = events_of(tmp_path)
    assert "to the earlier checkpoint of update 2 with" in events[1]
    best = checkpoint.read(Run.open(str(tmp_path / "run")).store, "update_000004")
    assert best.measured["swd"]["8"] == (0.1 if stays else second)
    assert ("The checkpoint of update 4 stays as it was" in events[2]) == stays


def test_what_is_given_up_names_the_best_checkpoint(tmp_path: Path, cosmic_ray):
    cosmic_ray(5, times=99)
    with pytest.raises(Diverged, match="Its best model, of update [24], is kept: --checkpoint best shows it."):
        debug(tmp_path, "evaluate.every=2", "evaluate.num_draws=1", "watch.max_retries=1")


def test_tensorboard_shows_every_update_once_after_a_roll_back(tmp_path: Path, cosmic_ray):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    cosmic_ray(3)  # seen at update 4: the run goes back to update 2
    debug(tmp_path)
    assert [r["update"] for r in records_of(tmp_path) if "grids" in r] == [1, 2, 3, 4, 3, 4, 5, 6], "the log keeps both"
    shown = EventAccumulator(str(tmp_path / "run" / "log")).Reload()
    assert [event.step for event in shown.Scalars("speed/images_per_s")] == [1, 2, 3, 4, 5, 6]


def test_nothing_is_saved_of_a_diverged_state(tmp_path: Path, cosmic_ray):
    cosmic_ray(3)  # the update before a checkpoint, between two records
    debug(tmp_path, "log.every=100", "checkpoint.keep=9")
    store = Run.open(str(tmp_path / "run")).store
    assert checkpoint.names(store) == ["update_000002", "update_000004", "update_000006"]
    for name in checkpoint.names(store):
        assert all(value.isfinite().all() for value in state_of(tmp_path, checkpoint_name=name).values())


def test_before_the_first_checkpoint_a_run_goes_back_to_its_start(tmp_path: Path, cosmic_ray):
    cosmic_ray(1)
    debug(tmp_path, "watch.rate_after_retry=0.999999999999")
    (event,) = events_of(tmp_path)
    assert "Going back to the start" in event
    debug(tmp_path, name="calm")
    struck, calm = state_of(tmp_path), state_of(tmp_path, "calm")
    for name, value in calm.items():
        torch.testing.assert_close(struck[name], value, rtol=1e-5, atol=1e-6)


def test_a_grid_that_smaller_rates_do_not_help_is_frozen_and_the_others_learn_on(tmp_path: Path, cosmic_ray):
    cosmic_ray(5, times=2)
    result = debug(tmp_path, "watch.max_retries=1", "checkpoint.every=1", "checkpoint.keep=9")
    _, event = events_of(tmp_path)
    assert "the earlier checkpoint of update 4: smaller rates did not help, so grid 8x8 is frozen" in event
    assert result["update"] == 6 and result["num_retries"] == 2
    before, after = (state_of(tmp_path, checkpoint_name=f"update_00000{update}") for update in (4, 6))
    for name, value in after.items():
        file, _, key = name.partition("/")
        if file in ("model", "ema"):
            frozen = key.startswith("grids.1.")
            assert torch.equal(value, before[f"ema/{key}"]) if frozen else True
            assert frozen or file == "ema" or not torch.equal(value, before[name])


def test_a_frozen_grid_stays_frozen_when_a_run_goes_on(tmp_path: Path, cosmic_ray):
    cosmic_ray(5, times=2)
    debug(tmp_path, "watch.max_retries=1", "checkpoint.every=1", "checkpoint.keep=9")
    debug(tmp_path, "watch.max_retries=1", "checkpoint.every=1", "checkpoint.keep=9", "learning.num_updates=8")
    before, after = (state_of(tmp_path, checkpoint_name=f"update_00000{update}") for update in (6, 8))
    frozen = [name for name in after if name.startswith("model/grids.1.")]
    assert frozen and all(torch.equal(before[name], after[name]) for name in frozen)
