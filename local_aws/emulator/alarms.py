"""CloudWatch alarms in the emulator: judged on their own metric, period by period, with missing data as they say."""

import time
from typing import Any

from ministack.services import cloudwatch

from local_aws.account import time_scale
from local_aws.emulator.alarm_rules import Rule

_SCALE = time_scale()
_describe_alarms = cloudwatch._describe_alarms


def _evaluate(alarm: dict[str, Any]) -> None:
    namespace, name = alarm.get("Namespace"), alarm.get("MetricName")
    if not namespace or not name:
        return
    rule, now = Rule.of(alarm, _SCALE), time.time()
    # What SetAlarmState has set holds until the next period.
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
    """An alarm that nobody sends data for changes its state too, and is asked for by then at the latest."""
    cloudwatch._evaluate_all_alarms()
    return _describe_alarms(*arguments)


def register() -> None:
    """Replaces MiniStack's rule, which mixes what all metrics of one name have sent."""
    cloudwatch._evaluate_alarm = _evaluate
    cloudwatch._describe_alarms = _describe
