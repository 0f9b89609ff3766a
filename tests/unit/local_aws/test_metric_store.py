"""The local account's metrics: aggregated as they arrive, thinned as CloudWatch thins them, and on disk."""

import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_aws.emulator.alarm_rules import Rule
from local_aws.emulator.metric_points import MAX_VALUES, Datum, Metric, merged, of_statistic_set, of_values
from local_aws.emulator.metric_store import MetricStore
from local_aws.emulator.statistics import Samples, statistic

LATENCY = Metric("Test", "latency", (("EndpointName", "e"),))
NOON = 1_800_000_000 // 86_400 * 86_400 + 43_200
HOUR, DAY = 3600, 86_400
SCOPE = "000000000000/us-east-1"
STATISTICS = (
    "SampleCount", "Sum", "Average", "Minimum", "Maximum", "p0", "p50", "p90", "p99.9", "p100", "tm95", "TM(10%:90%)",
    "tc90", "ts90", "wm95", "IQM", "TC(:500)", "TS(100:)", "PR(:300)",
)  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> MetricStore:
    return MetricStore(tmp_path / "metrics.db")


def datum(at: float, *values: float, resolution: int = 60, unit: str = "None", metric: Metric = LATENCY) -> Datum:
    return Datum(metric, unit, at, resolution, of_values([(value, 1.0) for value in values]))


def all_of(store: MetricStore, metric: Metric = LATENCY) -> Samples:
    return merged([point.samples for point in store.points(SCOPE, metric, 0)])


def values(samples: Samples) -> dict[str, float | None]:
    return {name: statistic(name)(samples) for name in STATISTICS}


@given(
    st.lists(st.lists(st.integers(0, 1000), min_size=1, max_size=20), min_size=1, max_size=20),
    st.integers(0, 2**32),
)
def test_statistics_of_what_is_kept_are_those_of_all_that_arrived(arrived: list[list[int]], seed: int) -> None:
    moments = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        store = MetricStore(Path(folder) / "metrics.db")
        for some in arrived:
            store.add(SCOPE, [datum(NOON + moments.uniform(0, 59), *map(float, some))])
        (point,) = store.points(SCOPE, LATENCY, 0)
    each = [float(value) for some in arrived for value in some]
    plain = Samples(len(each), sum(each), min(each), max(each), [(value, 1.0) for value in each])
    assert values(point.samples) == pytest.approx(values(plain))


def test_however_much_arrives_in_a_minute_is_one_datapoint_of_each_unit(store: MetricStore) -> None:
    for second in range(60):
        store.add(
            SCOPE, [datum(NOON + second, float(each), unit=unit) for each in range(50) for unit in ("None", "Count")]
        )
    points = store.points(SCOPE, LATENCY, 0)
    assert [(point.start, point.unit, point.samples.count) for point in points] == [
        (NOON, "Count", 3000), (NOON, "None", 3000),
    ]  # fmt: skip
    assert [point.unit for point in store.points(SCOPE, LATENCY, 0, unit="Count")] == ["Count"]


def test_too_many_different_values_are_merged_into_neighbors_without_a_change_of_their_sum(store: MetricStore) -> None:
    measured = np.random.default_rng(1).lognormal(10, 1, 50_000)
    for begin in range(0, measured.size, 1000):
        store.add(SCOPE, [datum(NOON, *measured[begin : begin + 1000])])
    (point,) = store.points(SCOPE, LATENCY, 0)
    kept = point.samples
    assert kept.values is not None
    assert len(kept.values) <= MAX_VALUES
    assert (kept.count, kept.low, kept.high) == (measured.size, measured.min(), measured.max())
    assert kept.total == pytest.approx(measured.sum())
    assert sum(value * count for value, count in kept.values) == pytest.approx(measured.sum())
    for percent in (1, 50, 90, 99, 99.9):
        assert statistic(f"p{percent}")(kept) == pytest.approx(np.percentile(measured, percent), rel=0.01)


@pytest.mark.parametrize("hiding", [of_statistic_set(3, 6, 1, 3), of_values([(-1.0, 1.0)])])
def test_a_statistic_set_or_a_negative_value_hides_the_percentiles_of_its_minute(
    store: MetricStore, hiding: Samples
) -> None:
    store.add(SCOPE, [datum(NOON, 1.0, 2.0), Datum(LATENCY, "None", NOON + 1, 60, hiding), datum(NOON + 60, 5.0)])
    first, second = store.points(SCOPE, LATENCY, 0)
    assert statistic("p50")(first.samples) is None
    assert statistic("Sum")(first.samples) == 3 + hiding.total
    assert statistic("p50")(second.samples) == 5.0


def test_a_statistic_set_of_one_repeated_value_has_percentiles(store: MetricStore) -> None:
    store.add(SCOPE, [Datum(LATENCY, "None", NOON, 60, of_statistic_set(4, 8, 2, 2))])
    assert statistic("p99")(all_of(store)) == 2.0


def starts(store: MetricStore) -> Sequence[int]:
    return [point.start - NOON for point in store.points(SCOPE, LATENCY, 0)]


@pytest.mark.parametrize(
    ("age", "periods"),
    [
        (3 * HOUR - 1, [0, 1, 90, 400]),
        (3 * HOUR + 10 * 60, [0, 60, 360]),
        (15 * DAY - 1, [0, 60, 360]),
        (15 * DAY + 10 * 60, [0, 300]),
        (63 * DAY - 1, [0, 300]),
        (63 * DAY + 2 * HOUR, [0]),
        (455 * DAY - 1, [0]),
        (455 * DAY + 2 * HOUR, []),
    ],
)
def test_datapoints_are_thinned_and_dropped_at_cloudwatchs_ages(
    store: MetricStore, age: int, periods: list[int]
) -> None:
    measured = {0.0: [1.0, 2.0], 1.5: [3.0], 90.0: [4.0, 4.0], 400.9: [5.0]}
    store.add(SCOPE, [datum(NOON + second, *some, resolution=1) for second, some in measured.items()])
    before = values(all_of(store))
    # Once an hour until then, as it comes, in the order of a running account.
    for moment in (*range(0, min(age, 2 * DAY), HOUR), age):
        store.age(NOON + moment)
    assert starts(store) == periods
    if periods:
        assert values(all_of(store)) == pytest.approx(before)


def test_a_metric_without_datapoints_is_forgotten(store: MetricStore) -> None:
    store.add(SCOPE, [datum(NOON, 1.0)])
    assert store.metrics(SCOPE, NOON + 14 * DAY) == [(LATENCY, NOON)]
    assert store.metrics(SCOPE, NOON + 14 * DAY + 1) == [], "listed for two weeks"
    store.age(NOON + 456 * DAY)
    store.add(SCOPE, [datum(NOON + 456 * DAY, 2.0)])
    assert all_of(store).total == 2.0


def test_a_metric_is_its_namespace_name_and_dimensions_in_one_region(store: MetricStore) -> None:
    others = [
        Metric("Other", "latency", LATENCY.dimensions),
        Metric("Test", "latency", ()),
        Metric("Test", "other", ()),
    ]
    store.add(SCOPE, [datum(NOON, 1.0), *(datum(NOON, 9.0, metric=other) for other in others)])
    store.add("000000000000/eu-west-1", [datum(NOON, 9.0)])
    assert all_of(store).total == 1.0
    assert len(store.metrics(SCOPE, NOON)) == 4


def test_points_are_read_by_the_start_of_their_period(store: MetricStore) -> None:
    store.add(SCOPE, [datum(NOON + 59.9, 1.0), datum(NOON + 61, 2.0)])
    assert [point.start for point in store.points(SCOPE, LATENCY, NOON, NOON + 30)] == [NOON]
    assert [point.start for point in store.points(SCOPE, LATENCY, NOON + 60)] == [NOON + 60]


def test_metrics_outlast_their_process_and_are_for_their_owner_alone(tmp_path: Path) -> None:
    MetricStore(tmp_path / "metrics.db").add(SCOPE, [datum(NOON, 1.0, 2.0)])
    assert all_of(MetricStore(tmp_path / "metrics.db")).total == 3.0
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


@pytest.mark.parametrize("scale", [1.0, 7.0, 60.0])
def test_an_alarm_has_the_same_state_on_what_is_kept(tmp_path: Path, scale: float) -> None:
    moments = random.Random(1)
    alarm = {
        "ExtendedStatistic": "p90", "ComparisonOperator": "GreaterThanThreshold", "Threshold": 50.0, "Period": 60,
        "EvaluationPeriods": 3, "DatapointsToAlarm": 2, "TreatMissingData": "notBreaching",
    }  # fmt: skip
    value = statistic("p90")
    seen = set()
    for number in range(40):
        raw = [
            datum(NOON - moments.uniform(0, 400) / scale, moments.uniform(0, 60 + number))
            for _ in range(number % 7 * 5)
        ]
        store = MetricStore(tmp_path / f"{number}.db", scale)
        store.add(SCOPE, raw)
        rule = Rule.of(alarm, scale)
        kept = store.points(SCOPE, LATENCY, rule.since(NOON))

        plain = MetricStore(tmp_path / f"{number}-plain.db", 1e6)
        plain.add(SCOPE, raw)
        expected = plain.points(SCOPE, LATENCY, 0)
        assert len(expected) == len(raw)
        states = [
            rule.state(points, lambda some: value(merged([each.samples for each in some])), "OK", NOON)
            for points in (kept, expected)
        ]
        assert states[0] == states[1]
        seen.add(states[0][0])
    assert seen == {"OK", "ALARM"}
