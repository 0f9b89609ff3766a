"""CloudWatch's metrics and alarms."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ministack.services import cloudwatch

from local_aws.emulator.ministack.responses import raise_for_status

Alarm = dict[str, Any]
"""An alarm's record, with the members that DescribeAlarms returns."""
Points = Sequence[Mapping[str, Any]]
"""Datapoints of one metric, oldest first, each with a Timestamp in seconds."""


def metric_points(namespace: str, name: str, dimensions: dict[str, str]) -> Points:
    """Return the datapoints of exactly this metric."""
    points: Points = cloudwatch._metrics.get((namespace, name, cloudwatch._dims_key(dimensions))) or []
    return points


def statistic(points: Points, name: str) -> float | None:
    """Return a statistic, such as `Average` or `p99`, over datapoints."""
    value: float | None = cloudwatch._stat_value(cloudwatch._calc_stats(points), name, points)
    return value


def change_alarm_state(alarm: Alarm, state: str, reason: str, now: float) -> None:
    """Set an alarm's state, record it in its history, run its actions, and evaluate the alarms composed of it.

    now: in seconds since the epoch.
    """
    before = alarm["StateValue"]
    alarm |= {"StateValue": state, "StateReason": reason, "StateUpdatedTimestamp": int(now)}
    cloudwatch._record_history(alarm["AlarmName"], before, state, reason)
    cloudwatch._dispatch_alarm_actions(alarm, before, state, reason)
    cloudwatch._evaluate_parent_alarms(alarm)


def replace_alarm_evaluation(evaluate: Callable[[Alarm], None]) -> None:
    """Evaluate each metric alarm with this function.

    DescribeAlarms evaluates all alarms first, because an alarm also changes state when no data arrives.
    """
    describe = cloudwatch._describe_alarms

    def evaluate_and_describe(*arguments: Any) -> Any:
        cloudwatch._evaluate_all_alarms()
        return describe(*arguments)

    cloudwatch._evaluate_alarm = evaluate
    cloudwatch._describe_alarms = evaluate_and_describe


def put_composite_alarm(request: dict[str, Any]) -> str:
    """Handle PutCompositeAlarm, and return the alarm's ARN; raise RuntimeError."""
    raise_for_status(cloudwatch._put_composite_alarm({}, request, False, is_json=True))
    arn: str = cloudwatch._composite_alarms[request["AlarmName"]]["AlarmArn"]
    return arn


def delete_alarm(name: str) -> None:
    """Handle DeleteAlarms for one alarm; raise RuntimeError."""
    raise_for_status(cloudwatch._delete_alarms({}, {"AlarmNames": [name]}, False, is_json=True))
