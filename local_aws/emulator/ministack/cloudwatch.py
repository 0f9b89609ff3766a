"""CloudWatch's metrics and alarms."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from xml.sax.saxutils import escape

from ministack.services import cloudwatch

from local_aws.emulator.ministack.responses import raise_for_status

Alarm = dict[str, Any]
"""An alarm's record, with the members that DescribeAlarms returns."""
RecordMetric = Callable[[str, str, float, str, Mapping[str, str]], None]
"""Takes a namespace, a metric's name, the value measured now, its unit, and the dimensions."""

_MEMBER = re.compile(r"\d+")
_HANDLERS = {
    "DescribeAlarmsForMetric": cloudwatch._describe_alarms_for_metric.__name__,
    "GetMetricData": cloudwatch._get_metric_data.__name__,
    "GetMetricStatistics": cloudwatch._get_metric_statistics.__name__,
    "ListDashboards": cloudwatch._list_dashboards.__name__,
    "ListMetrics": cloudwatch._list_metrics.__name__,
    "PutDashboard": cloudwatch._put_dashboard.__name__,
    "PutMetricAlarm": cloudwatch._put_metric_alarm.__name__,
    "PutMetricData": cloudwatch._put_metric_data.__name__,
}
"""Name of the function that handles an operation."""
_TIMESTAMPS = ("Timestamp", "Timestamps", "LastModified")
"""Members of responses that are seconds since 1970."""
_MAPS = ("ExtendedStatistics",)
"""Members of responses that are maps, which XML spells out."""


class CloudWatchError(ValueError):
    """A request that CloudWatch refuses: the code of its error, and the message."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def replace_operation(name: str, respond: Callable[[Mapping[str, Any]], dict[str, Any]]) -> None:
    """Handle an operation, in every protocol, with a function that takes the request and returns the response.

    Timestamps in the response are seconds since 1970. The function may raise CloudWatchError.
    """

    def handle(params: Any, body: Any, is_cbor: bool, is_json: bool = False) -> Any:
        try:
            response = respond(_request(params, body, is_cbor or is_json))
        except CloudWatchError as error:
            return cloudwatch._error(error.code, str(error), 400, use_json=is_json, use_cbor=is_cbor)
        if is_cbor:
            return cloudwatch._cbor_ok(_with_cbor_timestamps(response))
        if is_json:
            return cloudwatch._json_ok(response)
        return cloudwatch._xml(200, f"{name}Response", f"<{name}Result>{_xml(response)}</{name}Result>")

    setattr(cloudwatch, _HANDLERS[name], handle)


def check_operation(name: str, check: Callable[[Mapping[str, Any]], None]) -> None:
    """Call a function with each request of an operation, which may raise CloudWatchError, before it is handled."""
    original = getattr(cloudwatch, _HANDLERS[name])

    def handle(params: Any, body: Any, is_cbor: bool, is_json: bool = False) -> Any:
        try:
            check(_request(params, body, is_cbor or is_json))
        except CloudWatchError as error:
            return cloudwatch._error(error.code, str(error), 400, use_json=is_json, use_cbor=is_cbor)
        return original(params, body, is_cbor, is_json)

    setattr(cloudwatch, _HANDLERS[name], handle)


def _with_cbor_timestamps(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _with_cbor_timestamps(each, key) for key, each in value.items()}
    if isinstance(value, list):
        return [_with_cbor_timestamps(each, name) for each in value]
    return cloudwatch._cbor_timestamp(value) if name in _TIMESTAMPS else value


def _request(params: Mapping[str, Any], body: Any, is_structured: bool) -> Mapping[str, Any]:
    """Return a request's members; those of the query protocol, whose values are text, are nested first."""
    if is_structured:
        return body if isinstance(body, Mapping) else {}
    nested: dict[str, Any] = {}
    for path, values in params.items():
        *parents, last = path.split(".")
        place = nested
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = values[0] if isinstance(values, list) else values
    result: Mapping[str, Any] = _lists(nested)
    return result


def _lists(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    members = value.get("member")
    if set(value) == {"member"} and isinstance(members, dict) and all(_MEMBER.fullmatch(each) for each in members):
        return [_lists(members[number]) for number in sorted(members, key=int)]
    return {name: _lists(each) for name, each in value.items()}


def _xml(value: Any, name: str = "") -> str:
    if name in _MAPS:
        entries = (f"<entry><key>{escape(key)}</key><value>{each}</value></entry>" for key, each in value.items())
        return "".join(entries)
    if isinstance(value, dict):
        return "".join(f"<{key}>{_xml(each, key)}</{key}>" for key, each in value.items())
    if isinstance(value, list):
        return "".join(f"<member>{_xml(each, name)}</member>" for each in value)
    if name in _TIMESTAMPS:
        return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return escape(str(value))


def seconds(moment: Any) -> float | None:
    """Return a moment of a request in seconds since 1970, or None without one."""
    parsed: float | None = cloudwatch._parse_ts(moment)
    return parsed


def replace_recording(record: RecordMetric) -> None:
    """Record the metrics of MiniStack's own services with this function."""

    def record_metric(
        namespace: str, metric_name: str, value: float, unit: str = "None", dimensions: dict[str, str] | None = None
    ) -> None:
        record(namespace, metric_name, value, unit, dimensions or {})

    cloudwatch.record_metric = record_metric


def evaluate_alarms() -> None:
    """Evaluate every alarm, as new data may change its state."""
    cloudwatch._evaluate_all_alarms()


def dashboards() -> Sequence[Mapping[str, Any]]:
    """Return the records of all dashboards, by name."""
    return [cloudwatch._dashboards[name] for name in sorted(cloudwatch._dashboards)]


def check_alarms_of_templates(check: Callable[[Mapping[str, Any]], None]) -> None:
    """Call a function with each alarm that a template creates or changes; what it raises fails the resource."""
    put = cloudwatch.cloudformation_put_metric_alarm

    def checked(alarm: Alarm) -> None:
        _drop_default_statistic(alarm)
        check(alarm)
        put(alarm)

    cloudwatch.cloudformation_put_metric_alarm = checked


def _drop_default_statistic(alarm: Alarm) -> None:
    """Drop the statistic that MiniStack adds to every alarm from one on a percentile, which has none."""
    if alarm.get("ExtendedStatistic"):
        alarm.pop("Statistic", None)


def filter_alarms_for_metric(matches: Callable[[Alarm, Mapping[str, Any]], bool]) -> None:
    """Make DescribeAlarmsForMetric return the alarms for which `matches(alarm, request)` is true."""

    def handle(params: Any, body: Any, is_cbor: bool, is_json: bool = False) -> Any:
        request = _request(params, body, is_cbor or is_json)
        found = [alarm for alarm in cloudwatch._alarms.values() if matches(alarm, request)]
        if is_cbor:
            return cloudwatch._cbor_ok({"MetricAlarms": [cloudwatch._cbor_alarm(alarm) for alarm in found]})
        if is_json:
            return cloudwatch._json_ok({"MetricAlarms": found})
        shown = [{name: alarm[name] for name in ("AlarmName", "AlarmArn", "StateValue")} for alarm in found]
        result = f"<DescribeAlarmsForMetricResult>{_xml({'MetricAlarms': shown})}</DescribeAlarmsForMetricResult>"
        return cloudwatch._xml(200, "DescribeAlarmsForMetricResponse", result)

    setattr(cloudwatch, _HANDLERS["DescribeAlarmsForMetric"], handle)


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
        for alarm in cloudwatch._alarms.values():
            _drop_default_statistic(alarm)
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
