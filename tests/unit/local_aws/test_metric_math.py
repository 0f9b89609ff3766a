"""Metric math gives what CloudWatch's documentation says, for all that the dashboards use."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_aws.metric_math import MathError, Points, evaluate

A: Points = {0: 10.0, 60: 20.0, 120: 0.0}
B: Points = {0: 1.0, 120: 4.0}
METRICS = {"asked": A, "broken": B, "other": {60: 7.0}}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("asked", A),
        ("asked/1000", {0: 0.01, 60: 0.02, 120: 0.0}),
        ("2*asked+1", {0: 21.0, 60: 41.0, 120: 1.0}),
        ("-asked", {0: -10.0, 60: -20.0, 120: 0.0}),
        ("asked-broken", {0: 9.0, 120: -4.0}),
        ("broken/asked", {0: 0.1}),
        ("IF(asked>0,100*broken/asked)", {0: 10.0}),
        ("IF(asked>=20,1,0)", {0: 0.0, 60: 1.0, 120: 0.0}),
        ("IF(asked==0,broken,asked)", {0: 10.0, 60: 20.0, 120: 4.0}),
        ("CEIL(asked/15)", {0: 1.0, 60: 2.0, 120: 0.0}),
        ("FLOOR(asked/15)", {0: 0.0, 60: 1.0, 120: 0.0}),
        ("ABS(0-broken)", B),
        ("FILL(broken,0)", {0: 1.0, 60: 0.0, 120: 4.0}),
        ("SUM([asked,broken])", {0: 11.0, 60: 20.0, 120: 4.0}),
        ("MAX([asked,broken])", {0: 10.0, 60: 20.0, 120: 4.0}),
        ('SUM(METRICS("asked"))', A),
        ('SUM(METRICS("o"))', {0: 1.0, 60: 7.0, 120: 4.0}),
        ("SUM(METRICS())", {0: 11.0, 60: 27.0, 120: 4.0}),
        ("AVG(METRICS())", {0: 5.5, 60: 13.5, 120: 2.0}),
        ("SUM(asked)", {0: 30.0, 60: 30.0, 120: 30.0}),
        ("asked/SUM(asked)", {0: pytest.approx(1 / 3), 60: pytest.approx(2 / 3), 120: 0.0}),
        ("7", {0: 7.0, 60: 7.0, 120: 7.0}),
        ("1/0", {}),
    ],
)
def test_an_expression_gives_a_value_in_each_period_that_has_one(expression: str, expected: Points) -> None:
    assert evaluate(expression, METRICS) == expected


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("asked+", "is not a valid expression"),
        ("answered*2", "uses unknown ID answered; known IDs: asked, broken, other"),
        ("RATE(asked)", "RATE with 1 arguments is not supported here"),
        ("IF(asked)", "IF with 1 arguments"),
        ("asked.real", "asked.real is not supported here"),
        ("__import__('os')", "__import__ with 1 arguments"),
        ("[asked]", "[asked] is not supported here"),
        ("'text'", "'text' is not supported here"),
        ("True if asked else 0", "is not supported here"),
    ],
)
def test_what_is_no_metric_math_is_refused_by_its_part(expression: str, message: str) -> None:
    with pytest.raises(MathError) as refused:
        evaluate(expression, METRICS)
    assert message in str(refused.value)


@given(
    st.dictionaries(st.integers(0, 50), st.floats(-1e9, 1e9)), st.dictionaries(st.integers(0, 50), st.floats(-1e9, 1e9))
)
def test_an_operation_has_values_only_where_both_sides_have(left: Points, right: Points) -> None:
    found = evaluate("a+b", {"a": left, "b": right})
    assert set(found) == set(left) & set(right)
    assert all(value == left[period] + right[period] for period, value in found.items())
    assert evaluate("SUM(METRICS())", {"a": left, "b": right}).keys() == left.keys() | right.keys()
