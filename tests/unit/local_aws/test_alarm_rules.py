"""When an alarm of the local account is in which state."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from local_aws.emulator.alarm_rules import Rule
from local_aws.emulator.metric_points import Point, of_values

LATENCY = {
    "Statistic": "Average",
    "ComparisonOperator": "GreaterThanThreshold",
    "Threshold": 100.0,
    "Period": 60,
    "EvaluationPeriods": 3,
    "DatapointsToAlarm": 2,
    "TreatMissingData": "notBreaching",
}
ERRORS = LATENCY | {
    "Statistic": "Sum",
    "Threshold": 5.0,
    "EvaluationPeriods": 1,
    "DatapointsToAlarm": 1,
    "ComparisonOperator": "GreaterThanOrEqualToThreshold",
}


def state(alarm: Mapping[str, Any], *points: tuple[float, float], now: float = 600.0, scale: float = 1.0) -> str:
    """The state of an alarm that was OK, with points of (seconds before now, value)."""

    def statistic(some: Sequence[Point]) -> float:
        values = [each.samples.total for each in some]
        return sum(values) / (len(values) if alarm["Statistic"] == "Average" else 1)

    given = [
        Point(int(now - ago), now - ago, "None", of_values([(value, 1.0)]))
        for ago, value in sorted(points, reverse=True)
    ]
    rule = Rule.of(alarm, scale)
    needed = [point for point in given if point.at >= rule.since(now)]
    (state_, reason) = rule.state(given, statistic, "OK", now)
    assert rule.state(needed, statistic, "OK", now) == (state_, reason), "older datapoints do not matter"
    return state_


def test_enough_of_the_newest_periods_must_breach() -> None:
    assert state(LATENCY, (150, 200), (90, 50), (30, 200)) == "ALARM"
    assert state(LATENCY, (150, 50), (90, 50), (30, 200)) == "OK"


def test_a_period_counts_when_it_has_ended() -> None:
    assert state(ERRORS, (0, 9), now=630.0) == "OK"
    assert state(ERRORS, (0, 9), (31, 9), now=630.0) == "ALARM"


def test_an_older_period_stands_in_for_one_without_data() -> None:
    assert state(LATENCY, (330, 200), (270, 200)) == "ALARM"
    assert state(LATENCY, (500, 200), (460, 200)) == "OK", "too old"


@pytest.mark.parametrize(
    ("missing", "expected"),
    [("notBreaching", "OK"), ("breaching", "ALARM"), ("ignore", "OK"), ("missing", "INSUFFICIENT_DATA")],
)
def test_without_data_an_alarm_does_as_it_says(missing: str, expected: str) -> None:
    assert state(LATENCY | {"TreatMissingData": missing}) == expected


def test_the_periods_pass_faster_under_a_time_scale() -> None:
    assert state(LATENCY, (2.5, 200), (1.5, 200), (0.5, 50), scale=60.0) == "ALARM"
    assert state(LATENCY, (10.5, 200), (9.5, 200), scale=60.0) == "OK"


def test_a_sum_stays_so_much_a_minute_under_a_time_scale() -> None:
    one_a_second = [(0.5 + second, 1.0) for second in range(5)]
    assert state(ERRORS, *one_a_second, scale=60.0) == "ALARM"
    rare = [(0.5 + second, 0.0) for second in range(1, 5)]
    assert state(ERRORS, (0.5, 0.05), *rare, scale=60.0) == "OK"


def test_what_was_sent_for_a_whole_minute_counts_as_a_minute_under_a_time_scale() -> None:
    assert state(ERRORS, (60.5, 0), (0.5, 4), scale=60.0) == "OK"
    assert state(ERRORS, (60.5, 0), (0.5, 6), scale=60.0) == "ALARM"
    assert state(ERRORS, (0.5, 4), scale=60.0) == "OK", "the first ever counts as a minute's"
