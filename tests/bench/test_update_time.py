"""The model of an update's time: its identities, and that it finds the numbers it was made from."""

import itertools

import pytest

from distmgcd.bench.predict import predict, shows_at
from distmgcd.bench.update_time import GridTime, Line, Link, UpdateTime, all_reduce_seconds, fit_line

LINK = Link(bytes_per_s=100.0, latency=0.5)
MODEL = UpdateTime(
    [
        GridTime(Line(1.0, 0.1), Line(0.2, 0.0), gradient_bytes=300.0),
        GridTime(Line(2.0, 0.4), Line(0.0, 0.1), gradient_bytes=1000.0),
    ],
    rest=Line(0.25, 0.0),
)


def test_an_update_computes_the_sum_of_its_parts():
    assert MODEL.computing(10) == pytest.approx((1 + 1) + 0.2 + (2 + 4) + 1 + 0.25)


@pytest.mark.parametrize("overlap", [False, True])
def test_one_worker_takes_what_it_computes(overlap):
    assert MODEL.seconds(10, 1, LINK, overlap=overlap) == pytest.approx(MODEL.computing(10))
    row = predict(MODEL, LINK, 1, 10, alone=10 / MODEL.computing(10))
    assert row["without_overlap"] == row["with_overlap"]
    assert row["without_overlap"]["images_per_s"] == pytest.approx(10 / MODEL.computing(10))
    assert row["without_overlap"]["communication"] == pytest.approx(0)
    assert row["without_overlap"]["of_ideal"] == pytest.approx(1)


def test_two_workers_send_two_messages_and_each_byte_once():
    assert all_reduce_seconds(300, 2, LINK) == pytest.approx(2 * 0.5 + 3.0)


def test_averaging_grows_with_the_logarithm_and_towards_twice_the_bytes():
    assert all_reduce_seconds(100, 1024, LINK) == pytest.approx(2 * 10 * 0.5 + 2 * 1023 / 1024)
    assert all_reduce_seconds(100, 5, Link(100.0, 1.0)) == pytest.approx(2 * 3 + 1.6)


def test_twice_the_bandwidth_halves_all_but_the_latencies():
    twice = Link(2 * LINK.bytes_per_s, LINK.latency)
    none = Link(float("inf"), LINK.latency)
    slow, fast, latencies = (all_reduce_seconds(700, 8, link) for link in (LINK, twice, none))
    assert slow - latencies == pytest.approx(2 * (fast - latencies))


@pytest.mark.parametrize("overlap", [False, True])
def test_zero_bytes_cost_nothing(overlap):
    silent = UpdateTime([GridTime(g.sampling, g.gradient, 0.0) for g in MODEL.grids], MODEL.rest)
    assert silent.seconds(10, 64, LINK, overlap=overlap) == pytest.approx(MODEL.computing(10))


def test_a_coarse_gradient_travels_while_the_finer_grid_samples():
    """By hand, 2 workers: averaging takes 1 + 3 and 1 + 10; the grids 2.2 and 7, all else 0.25."""
    assert MODEL.seconds(10, 2, LINK, overlap=False) == pytest.approx(2.2 + 7 + 0.25 + 4 + 11)
    assert MODEL.seconds(10, 2, LINK, overlap=True) == pytest.approx(2.2 + 7 + 11 + 0.25)  # 4 of grid 0 is hidden in 7
    slow = Link(50.0, 0.5)  # grid 0 takes 1 + 6 and ends at 9.2, as grid 1's gradient is there; grid 1 takes 1 + 20
    assert MODEL.seconds(10, 2, slow, overlap=True) == pytest.approx(9.2 + 21 + 0.25)
    slower = Link(30.0, 0.5)  # 1 + 10 ends at 13.2, later than 9.2, and grid 1 waits for it: 1 + 100 / 3
    assert MODEL.seconds(10, 2, slower, overlap=True) == pytest.approx(13.2 + 1 + 1000 / 30 + 0.25)


def test_small_gradients_travel_with_that_of_the_next_grid():
    """By hand, as above: both in one message, which follows grid 1, or each in its own."""
    for least, alone in ((300, True), (301, False), (1000, False), (2000, False)):
        model = UpdateTime(MODEL.grids, MODEL.rest, least_bytes=least)
        messages = 11 if alone else 1 + 13
        assert model.seconds(10, 2, LINK, overlap=True) == pytest.approx(2.2 + 7 + messages + 0.25)
        assert model.seconds(10, 2, LINK, overlap=False) == pytest.approx(2.2 + 7 + (15 if alone else 14) + 0.25)


def test_overlap_never_costs_and_never_gains_more_than_all_of_it():
    for workers, speed, images in itertools.product((2, 3, 64, 1024), (1.0, 100.0, 1e9), (1, 100)):
        link = Link(speed, 0.1)
        computing, without, overlapped = (
            MODEL.computing(images),
            MODEL.seconds(images, workers, link, overlap=False),
            MODEL.seconds(images, workers, link, overlap=True),
        )
        assert computing <= overlapped <= without + 1e-9


def test_all_wait_for_the_largest_share():
    assert predict(MODEL, LINK, 8, 100, alone=1.0)["share"] == 13
    assert predict(MODEL, LINK, 8, 100, alone=1.0)["without_overlap"]["images_per_s"] == pytest.approx(
        100 / MODEL.seconds(13, 8, LINK, overlap=False)
    )


def test_a_line_through_points_of_a_line_is_that_line():
    assert _close(fit_line([4, 16, 64], [3 + 0.5 * b for b in (4, 16, 64)]), Line(3, 0.5))
    assert _close(fit_line([8, 32], [2.0, 5.0]), Line(1.0, 0.125))


def test_no_part_of_a_line_is_below_zero():
    assert fit_line([1, 2, 4], [1.0, 2.2, 4.9]).fixed == 0
    falling = fit_line([1, 2, 4], [1.0, 0.9, 0.8])
    assert falling.per_image == 0 and 0.8 < falling.fixed < 1.0


def _close(a: Line, b: Line) -> bool:
    return (a.fixed, a.per_image) == pytest.approx((b.fixed, b.per_image))


def test_communication_shows_at_the_first_row_above_five_percent():
    rows = [predict(MODEL, Link(1e5, 0.0), 2**n, 10 * 2**n, alone=1.0) for n in range(4)]
    parts = [row["without_overlap"]["communication"] for row in rows]
    assert parts[0] == pytest.approx(0) and parts == sorted(parts) and max(parts) < 0.05
    assert shows_at(rows, "without_overlap") is None
    rows += [predict(MODEL, LINK, 16, 160, alone=1.0), predict(MODEL, LINK, 32, 320, alone=1.0)]
    assert shows_at(rows, "without_overlap") == 16
