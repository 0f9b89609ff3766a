"""CloudWatch's statistics: what its guide says of them, on values seen several times."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_aws.emulator.statistics import Samples, StatisticError, statistic

VALUES = st.lists(st.tuples(st.integers(0, 1000), st.integers(1, 5)), min_size=1, max_size=30)


def samples(values: list[tuple[int, int]]) -> tuple[Samples, list[float]]:
    each = [float(value) for value, count in values for _ in range(count)]
    weighted = [(float(value), float(count)) for value, count in values]
    return Samples(len(each), sum(each), min(each), max(each), weighted), sorted(each)


@given(values=VALUES, percent=st.integers(0, 100))
def test_a_percentile_is_that_of_all_values(values: list[tuple[int, int]], percent: int) -> None:
    given_, each = samples(values)
    assert statistic(f"p{percent}")(given_) == pytest.approx(np.percentile(each, percent))


@given(values=VALUES)
def test_simple_statistics_are_those_of_all_values(values: list[tuple[int, int]]) -> None:
    given_, each = samples(values)
    expected = {
        "SampleCount": len(each), "Sum": sum(each), "Average": np.mean(each), "Minimum": each[0], "Maximum": each[-1],
    }  # fmt: skip
    assert {name: statistic(name)(given_) for name in expected} == pytest.approx(expected)


@given(values=VALUES)
def test_what_is_trimmed_by_nothing_is_the_whole(values: list[tuple[int, int]]) -> None:
    given_, each = samples(values)
    assert statistic("TM(0%:100%)")(given_) == pytest.approx(np.mean(each))
    assert statistic("WM(:100%)")(given_) == pytest.approx(np.mean(each))
    assert statistic("TC(0%:)")(given_) == pytest.approx(len(each))
    assert statistic("TS(-)".replace("-", ":1000"))(given_) == pytest.approx(
        sum(value for value in each if value <= 1000)
    )


TEN = samples([(value, 1) for value in (1, 2, 3, 4, 5, 6, 7, 8, 9, 100)])[0]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tm90", 5.0),
        ("TM(:90%)", 5.0),
        ("TM(10%:90%)", 5.5),
        ("TM(2:8)", 5.5),
        ("tc90", 9.0),
        ("TC(2:8)", 6.0),
        ("ts90", 45.0),
        ("TS(80%:)", 109.0),
        ("wm90", (45 + 9) / 10),
        ("WM(10%:90%)", (2 + 2 + 3 + 4 + 5 + 6 + 7 + 8 + 9 + 9) / 10),
        ("PR(:5)", 50.0),
        ("PR(5:)", 50.0),
        ("PR(2:8)", 60.0),
        ("IQM", (0.5 * 3 + 4 + 5 + 6 + 7 + 0.5 * 8) / 5),
        ("p99.9", 9 + 0.991 * 91),
    ],
)
def test_trimmed_statistics_have_the_values_of_their_definition(name: str, value: float) -> None:
    assert statistic(name)(TEN) == pytest.approx(value)


@pytest.mark.parametrize(
    "name",
    [
        "", "average", "p", "p101", "p-1", "p99.99.9", "tm(10%:90)", "TM(:)", "TM(90%:10%)", "TM(0%:101%)", "PR(1%:2%)",
        "XX99",
    ],
)  # fmt: skip
def test_another_name_is_refused(name: str) -> None:
    with pytest.raises(StatisticError, match="is not a statistic"):
        statistic(name)


@pytest.mark.parametrize("name", ["p50", "tm99", "IQM", "TC(1:2)", "PR(1:2)", "wm50"])
def test_a_statistic_set_has_no_percentiles(name: str) -> None:
    assert statistic(name)(Samples(3, 6, 1, 3, None)) is None
