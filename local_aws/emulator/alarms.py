"""CloudWatch alarms in the emulator: evaluated per period on their own metric, with missing data as configured.

Composite alarms, with their rules and notifications, are MiniStack's own; this module adds their CloudFormation type.
"""

import json
import time
from typing import Any

from ministack.services import cloudwatch
from ministack.services.cloudformation import provisioners

from local_aws.account import time_scale
from local_aws.emulator.alarm_rules import Rule

_SCALE = time_scale()
_describe_alarms = cloudwatch._describe_alarms


def _evaluate(alarm: dict[str, Any]) -> None:
    namespace, name = alarm.get("Namespace"), alarm.get("MetricName")
    if not namespace or not name:
        return
    rule, now = Rule.of(alarm, _SCALE), time.time()
    # A state set by SetAlarmState holds until the next period.
    if alarm.get("StateUpdatedTimestamp", 0) // rule.window == now // rule.window:
        return
    dimensions = {each["Name"]: each["Value"] for each in alarm.get("Dimensions") or []}
    points = cloudwatch._metrics.get((namespace, name, cloudwatch._dims_key(dimensions))) or []
    before = alarm["StateValue"]
    state, reason = rule.state(
        points,
        lambda some: cloudwatch._stat_value(cloudwatch._calc_stats(some), rule.statistic, some),
        before,
        now,
    )
    if state != before:
        alarm |= {"StateValue": state, "StateReason": reason, "StateUpdatedTimestamp": int(now)}
        cloudwatch._record_history(alarm["AlarmName"], before, state, reason)
        cloudwatch._dispatch_alarm_actions(alarm, before, state, reason)
        cloudwatch._evaluate_parent_alarms(alarm)


def _describe(*arguments: Any) -> Any:
    """Evaluate all alarms first, because an alarm also changes state when no data arrives."""
    cloudwatch._evaluate_all_alarms()
    return _describe_alarms(*arguments)


def _put_composite(name: str, properties: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    request = {key: value for key, value in properties.items() if key != "Tags"} | {"AlarmName": name}
    _checked(cloudwatch._put_composite_alarm({}, request, False, is_json=True))
    return name, {"Arn": cloudwatch._composite_alarms[name]["AlarmArn"]}


def _create_composite(logical_id: str, properties: dict[str, Any], stack: str) -> tuple[str, dict[str, Any]]:
    name = properties.get("AlarmName") or provisioners._physical_name(stack, logical_id, max_len=255)
    return _put_composite(name, properties)


def _update_composite(
    physical_id: str,
    old: dict[str, Any],  # noqa: ARG001 - MiniStack passes it
    new: dict[str, Any],
    stack: str,  # noqa: ARG001 - MiniStack passes it
) -> tuple[str, dict[str, Any]]:
    return _put_composite(physical_id, new)


def _delete_composite(physical_id: str, properties: dict[str, Any]) -> None:  # noqa: ARG001 - MiniStack passes them
    _checked(cloudwatch._delete_alarms({}, {"AlarmNames": [physical_id]}, False, is_json=True))


def _checked(response: Any) -> None:
    status, _, body = response
    if status >= 400:
        raise RuntimeError(json.loads(body)["message"])


def register() -> None:
    """Replace MiniStack's evaluation, which mixes all metrics of one name, and add the composite alarm's type."""
    provisioners._RESOURCE_HANDLERS["AWS::CloudWatch::CompositeAlarm"] = {
        "create": _create_composite,
        "update": _update_composite,
        "delete": _delete_composite,
    }
    provisioners._REPLACING_PROPERTIES["AWS::CloudWatch::CompositeAlarm"] = ("AlarmName",)
    cloudwatch._evaluate_alarm = _evaluate
    cloudwatch._describe_alarms = _describe
