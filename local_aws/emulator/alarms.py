"""CloudWatch alarms in the emulator: evaluated per period on their own metric, with missing data as configured.

Composite alarms, with their rules and notifications, are MiniStack's own; this module adds their CloudFormation type.
"""

import time

from local_aws.account import time_scale
from local_aws.emulator import telemetry
from local_aws.emulator.alarm_rules import Rule
from local_aws.emulator.metric_points import merged
from local_aws.emulator.metric_requests import metric_of, scope
from local_aws.emulator.ministack import cloudwatch
from local_aws.emulator.ministack.resources import Properties, Provisioned, physical_name, register_resource
from local_aws.emulator.statistics import statistic

_SCALE = time_scale()


def _evaluate(alarm: cloudwatch.Alarm) -> None:
    if not alarm.get("Namespace") or not alarm.get("MetricName"):
        return
    rule, now = Rule.of(alarm, _SCALE), time.time()
    # A state set by SetAlarmState holds until the next period.
    if alarm.get("StateUpdatedTimestamp", 0) // rule.window == now // rule.window:
        return
    points = telemetry.metrics().points(scope(), metric_of(alarm), rule.since(now), unit=alarm.get("Unit") or None)
    before = alarm["StateValue"]
    value = statistic(rule.statistic)
    state, reason = rule.state(points, lambda some: value(merged([each.samples for each in some])), before, now)
    if state != before:
        cloudwatch.change_alarm_state(alarm, state, reason, now)


def _put_composite(name: str, properties: Properties) -> Provisioned:
    request = {key: value for key, value in properties.items() if key != "Tags"} | {"AlarmName": name}
    return name, {"Arn": cloudwatch.put_composite_alarm(request)}


def _create_composite(logical_id: str, properties: Properties, stack: str) -> Provisioned:
    name = properties.get("AlarmName") or physical_name(stack, logical_id, max_length=255)
    return _put_composite(name, properties)


def _update_composite(
    physical_id: str,
    _old: Properties,
    new: Properties,
    _stack: str,
) -> Provisioned:
    return _put_composite(physical_id, new)


def _delete_composite(physical_id: str, _properties: Properties) -> None:
    cloudwatch.delete_alarm(physical_id)


def register() -> None:
    """Replace MiniStack's evaluation, which mixes all metrics of one name, and add the composite alarm's type."""
    register_resource(
        "AWS::CloudWatch::CompositeAlarm",
        create=_create_composite,
        update=_update_composite,
        delete=_delete_composite,
        replacing=("AlarmName",),
    )
    cloudwatch.replace_alarm_evaluation(_evaluate)
