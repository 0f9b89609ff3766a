"""Shapes become courses of straight stretches, and arrivals follow their rate."""

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from load_tests.shapes import (
    Constant,
    Course,
    Ramp,
    Replay,
    ShapeError,
    Spike,
    Steps,
    Stretch,
    course,
    parse_shape,
    read_trace,
    replay_seconds,
)


def test_every_shape_holds_its_first_level_while_it_warms_up() -> None:
    for shape in (Constant(), Steps(count=4), Spike(), Ramp(), Replay(points=((0, 7), (3, 9)))):
        made = course(shape, 100, warm_up=5, seconds=20)
        assert made.at(0) == made.at(4.99) == pytest.approx(made.at(5), rel=1e-6)
        assert (made.seconds, made.at(25.01)) == (25, 0)


def test_steps_rise_to_the_level_and_a_spike_is_the_middle_fifth() -> None:
    steps = course(Steps(count=4), 100, warm_up=0, seconds=20)
    assert [steps.at(second) for second in (0, 4.9, 5, 10, 19.9)] == [25, 25, 50, 75, 100]
    spike = course(Spike(factor=5), 100, warm_up=0, seconds=20)
    assert [spike.at(second) for second in (0, 7.9, 8, 11.9, 12, 19)] == [100, 100, 500, 500, 100, 100]
    assert spike.highest == 500


def test_a_ramp_goes_evenly_from_its_start_to_the_level() -> None:
    ramp = course(Ramp(start=0.1), 100, warm_up=0, seconds=9)
    assert [ramp.at(second) for second in (0, 4.5)] == pytest.approx([10, 55])
    assert ramp.total(0, 9) == pytest.approx(55 * 9)


def test_a_trace_is_replayed_row_by_row_and_its_last_row_lasts_as_long_as_the_one_before() -> None:
    trace = read_trace("seconds,rate\n0,10\n5,40\n8,20\n")
    assert replay_seconds(trace) == 11
    made = course(trace, 1, warm_up=0, seconds=11)
    assert [made.at(second) for second in (0, 4.9, 5, 8, 10.9)] == [10, 10, 40, 20, 20]
    assert read_trace("seconds,users\n0,3\n").of == "users"


def test_a_trace_can_be_cut_short() -> None:
    made = course(read_trace("seconds,rate\n0,10\n5,40\n8,20\n"), 1, warm_up=0, seconds=6)
    assert (made.seconds, made.total(0, 6)) == (6, 90)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "no second"),
        ("time,rate\n0,1\n", "columns seconds and rate"),
        ("seconds,rate\n0,many\n", "columns seconds and rate"),
        ("seconds,rate\n1,5\n", "begin at 0"),
        ("seconds,rate\n0,5\n0,6\n", "each second once"),
        ("seconds,rate\n0,-5\n", "negative or not finite"),
        ("seconds,rate\n0,nan\n", "negative or not finite"),
        ("seconds,users\n0,0\n", "only zeros in column users"),
    ],
)
def test_a_trace_that_cannot_be_replayed_says_why(text: str, part: str) -> None:
    with pytest.raises(ShapeError, match=part):
        read_trace(text)


def test_shapes_are_read_from_the_command_line() -> None:
    assert [parse_shape(text) for text in ("constant", "steps", "steps:3", "spike:2.5", "ramp:0.5")] == [
        Constant(),
        Steps(),
        Steps(count=3),
        Spike(factor=2.5),
        Ramp(start=0.5),
    ]
    for text in ("stairs", "constant:3", "steps:x", "steps:1", "spike:0.5", "ramp:0"):
        with pytest.raises(ShapeError, match="give constant, steps"):
            parse_shape(text)


@given(st.floats(0, 1000), st.floats(0, 1000), st.floats(0.1, 100), st.floats(0.001, 0.999))
def test_the_second_at_which_an_area_is_reached_has_that_area_before_it(
    first: float, last: float, length: float, share: float
) -> None:
    stretch = Stretch(3, 3 + length, first, last)
    if stretch.area < 1e-6:
        return
    second = stretch.second_of(share * stretch.area)
    before = Course((stretch,)).total(3, second)
    assert before == pytest.approx(share * stretch.area, rel=1e-6, abs=1e-6)


def test_arrivals_are_as_many_as_asked_for_in_order_and_within_their_window() -> None:
    made = course(Ramp(start=0.5), 100, warm_up=10, seconds=20)
    found = made.arrivals(1500, 10, 30, random.Random(1))
    assert len(found) == 1500
    assert list(found) == sorted(found)
    assert found[0] >= 10
    assert found[-1] < 30


def test_arrivals_are_seeded() -> None:
    made = course(Constant(), 100, warm_up=0, seconds=10)
    assert made.arrivals(1000, 0, 10, random.Random("1/0")) == made.arrivals(1000, 0, 10, random.Random("1/0"))
    assert made.arrivals(1000, 0, 10, random.Random("1/0")) != made.arrivals(1000, 0, 10, random.Random("1/1"))


def test_gaps_between_arrivals_are_exponential_and_workers_join_to_one_poisson_process() -> None:
    # Two workers' halves together: gaps with the mean and standard deviation of an exponential, both 1/rate.
    made = course(Constant(), 1000, warm_up=0, seconds=50)
    together = sorted(
        second for worker in range(2) for second in made.arrivals(25_000, 0, 50, random.Random(f"0/{worker}"))
    )
    gaps = [later - earlier for earlier, later in pairwise(together)]
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert mean == pytest.approx(1e-3, rel=0.01)
    assert deviation == pytest.approx(1e-3, rel=0.03)


def test_more_arrive_where_the_rate_is_higher() -> None:
    made = course(Spike(factor=5), 100, warm_up=0, seconds=50)
    found = made.arrivals(round(made.total(0, 50)), 0, 50, random.Random(2))
    within = sum(20 <= second < 30 for second in found)
    # The middle fifth has 5000 of 9000; the standard deviation of that share of so many draws is 47.
    assert within == pytest.approx(5000, abs=240)
