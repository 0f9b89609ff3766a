"""Condition operators, row by row as the IAM user guide describes them."""

from collections.abc import Mapping, Sequence

import pytest

from local_aws.authorization.conditions import ConditionError, parse

# operator, the policy's value or values, the request's values (None: the key is absent), whether the condition is true.
_OPERATORS: list[tuple[str, str | list[str], list[str] | None, bool]] = [
    ("StringEquals", "queue-1", ["queue-1"], True),
    ("StringEquals", "queue-1", ["Queue-1"], False),
    ("StringEquals", "queue-*", ["queue-1"], False),
    ("StringEquals", ["one", "two"], ["two"], True),
    ("StringNotEquals", ["one", "two"], ["three"], True),
    ("StringNotEquals", ["one", "two"], ["two"], False),
    ("StringEqualsIgnoreCase", "JohnDoe", ["johndoe"], True),
    ("StringNotEqualsIgnoreCase", "JohnDoe", ["johndoe"], False),
    ("StringLike", "home/*", ["home/a/b"], True),
    ("StringLike", "home/?", ["home/ab"], False),
    ("StringLike", "Home/*", ["home/a"], False),
    ("StringNotLike", "home/*", ["root/a"], True),
    ("NumericEquals", "10", ["10.0"], True),
    ("NumericNotEquals", "10", ["11"], True),
    ("NumericLessThan", "1.2", ["1.1"], True),
    ("NumericLessThan", "1.2", ["1.3"], False),
    ("NumericLessThanEquals", "10", ["10"], True),
    ("NumericGreaterThan", "10", ["10"], False),
    ("NumericGreaterThanEquals", "10", ["10"], True),
    ("NumericEquals", "10", ["ten"], False),
    ("DateEquals", "2026-01-01T00:00:00Z", ["1767225600"], True),
    ("DateNotEquals", "2026-01-01T00:00:00Z", ["2026-01-02T00:00:00Z"], True),
    ("DateLessThan", "2026-01-02", ["2026-01-01T23:59:59Z"], True),
    ("DateGreaterThan", "2026-01-01T00:00:00Z", ["2025-12-31T23:59:59Z"], False),
    ("DateGreaterThanEquals", "2026-01-01T00:00:00+01:00", ["2025-12-31T23:00:00Z"], True),
    ("Bool", "true", ["TRUE"], True),
    ("Bool", "false", ["true"], False),
    ("BinaryEquals", "QmluYXJ5VmFsdWVJbkJhc2U2NA==", ["QmluYXJ5VmFsdWVJbkJhc2U2NA=="], True),
    ("IpAddress", "203.0.113.0/24", ["203.0.113.77"], True),
    ("IpAddress", "203.0.113.0/24", ["203.0.114.1"], False),
    ("IpAddress", "2001:DB8:1234:5678::/64", ["2001:db8:1234:5678::1"], True),
    ("NotIpAddress", "203.0.113.0/24", ["203.0.114.1"], True),
    ("ArnEquals", "arn:aws:sns:*:123456789012:topic-?", ["arn:aws:sns:us-east-1:123456789012:topic-1"], True),
    ("ArnLike", "arn:aws:sns:us-*:123456789012:*", ["arn:aws:sns:us-east-1:123456789012:a:b"], True),
    ("ArnLike", "arn:aws:*", ["arn:aws:sns:us-east-1:123456789012:topic"], False),
    ("ArnNotLike", "arn:aws:iam::*:role/build/*", ["arn:aws:iam::123456789012:role/other"], True),
    ("ArnNotEquals", "arn:aws:iam::*:role/build/*", ["arn:aws:iam::123456789012:role/build/x"], False),
    # Without the key, a condition is false, and a negated one true.
    ("StringEquals", "a", None, False),
    ("StringNotEquals", "a", None, True),
    ("NotIpAddress", "203.0.113.0/24", None, True),
    ("Bool", "false", None, False),
    ("StringEqualsIfExists", "a", None, True),
    ("StringEqualsIfExists", "a", ["b"], False),
    ("NumericLessThanIfExists", "1.2", None, True),
    ("Null", "true", None, True),
    ("Null", "true", ["a"], False),
    ("Null", "false", ["a"], True),
    # Sets: all values of the request, or any.
    ("ForAllValues:StringEquals", ["a", "b"], ["a", "b"], True),
    ("ForAllValues:StringEquals", ["a", "b"], ["a", "c"], False),
    ("ForAllValues:StringEquals", ["a", "b"], None, True),
    ("ForAllValues:StringNotEquals", ["a"], ["b", "c"], True),
    ("ForAnyValue:StringEquals", ["a", "b"], ["c", "b"], True),
    ("ForAnyValue:StringEquals", ["a", "b"], ["c"], False),
    ("ForAnyValue:StringEquals", ["a"], None, False),
    ("ForAnyValue:StringNotEquals", ["a"], ["a", "b"], True),
    ("ForAnyValue:StringNotEquals", ["a"], None, False),
    ("ForAnyValue:StringLikeIfExists", ["a*"], None, True),
    ("foranyvalue:stringlike", ["a*"], ["abc"], True),
]


@pytest.mark.parametrize(("operator", "values", "actual", "holds"), _OPERATORS)
def test_an_operator_compares_as_documented(
    operator: str, values: str | list[str], actual: list[str] | None, holds: bool
) -> None:
    given = [values] if isinstance(values, str) else values
    context: Mapping[str, Sequence[str]] = {} if actual is None else {"service:key": actual}
    assert parse(operator, "Service:Key", given, True).holds(context) is holds


@pytest.mark.parametrize(
    ("operator", "value", "context", "holds"),
    [
        ("StringEquals", "${aws:username}", {"aws:username": ["ann"], "key": ["ann"]}, True),
        ("StringLike", "home/${aws:username}/*", {"aws:username": ["ann"], "key": ["home/ann/x"]}, True),
        ("StringLike", "home/${aws:username}/*", {"key": ["home/ann/x"]}, False),
        ("StringLike", "${aws:PrincipalTag/team, 'public'}/*", {"key": ["public/x"]}, True),
        # A variable's value matches itself only.
        ("StringLike", "${aws:username}", {"aws:username": ["*"], "key": ["ann"]}, False),
        ("StringLike", "a${*}", {"key": ["a*"]}, True),
        ("StringLike", "a${*}", {"key": ["ab"]}, False),
        ("ArnLike", "arn:aws:iam::${aws:PrincipalAccount}:role/*",
         {"aws:principalaccount": ["123456789012"], "key": ["arn:aws:iam::123456789012:role/x"]}, True),
    ],
)  # fmt: skip
def test_policy_variables_are_replaced(operator: str, value: str, context: dict[str, list[str]], holds: bool) -> None:
    assert parse(operator, "key", [value], True).holds(context) is holds


@pytest.mark.parametrize(
    ("operator", "value", "message"),
    [
        ("StringEqual", "a", "the operator 'StringEqual' does not exist: use StringEquals"),
        ("ForAllValues:StringLikes", "a", "the operator 'ForAllValues:StringLikes' does not exist: use StringLike"),
        ("NullIfExists", "true", "the operator 'NullIfExists' does not exist: use Null"),
        ("Bool", "yes", "Bool of key is 'yes', which Bool does not accept"),
        ("NumericLessThan", "few", "NumericLessThan of key is 'few', which NumericLessThan does not accept"),
        ("IpAddress", "10.0.0.300", "IpAddress of key is '10.0.0.300', which IpAddress does not accept"),
        ("DateLessThan", "tomorrow", "DateLessThan of key is 'tomorrow', which DateLessThan does not accept"),
    ],
)
def test_what_no_condition_can_say_is_an_error_that_names_it(operator: str, value: str, message: str) -> None:
    with pytest.raises(ConditionError) as raised:
        parse(operator, "key", [value], True)
    assert str(raised.value) == message
