"""What a queue in front of an engine does by itself, which servers are held beside."""

from benchmarks.encoder.open_loop import arrivals
from benchmarks.encoder.queueing import first_come_first_served


def test_a_free_lane_takes_its_own_time_and_a_busy_one_makes_the_next_wait() -> None:
    assert first_come_first_served([0.0, 0.1, 0.2, 5.0], [1.0], 1) == [1.0, 1.9, 2.8, 1.0]
    assert first_come_first_served([0.0, 0.5, 1.5], [2.0, 1.0], 2) == [2.0, 1.0, 2.0]


def test_whoever_comes_first_gets_the_lane_that_is_free_first() -> None:
    assert first_come_first_served([0.0, 0.0, 0.0, 0.0], [3.0, 1.0, 1.0, 1.0], 2) == [3.0, 1.0, 2.0, 3.0]


def test_arrivals_are_the_same_for_the_same_seed_and_as_many_as_the_rate_says() -> None:
    times = list(arrivals(200.0, 50.0, 7))
    assert times == list(arrivals(200.0, 50.0, 7)) == sorted(times)
    assert 9_500 < len(times) < 10_500
    assert times[-1] < 50.0
