"""GetMetricData in the emulator, with metric math, and the validation of CloudWatch's other requests.

Source: the API reference of GetMetricData, GetMetricStatistics, PutMetricAlarm and PutDashboard.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from local_aws.emulator.ministack import cloudwatch
from local_aws.emulator.ministack.cloudwatch import CloudWatchError, Points
from local_aws.emulator.statistics import Samples, StatisticError, statistic
from local_aws.metric_math import MathError, evaluate
from local_aws.metric_math import Points as Series

Request = Mapping[str, Any]
_MOST_QUERIES, _MOST_DATAPOINTS = 500, 100_800
_ID = re.compile(r"[a-z][A-Za-z0-9_]*")
_NAMES = re.compile(r"\b[a-z][A-Za-z0-9_]*\b")
_SUBMINUTE = (1, 5, 10, 30)
_ALARM_PERIODS = (10, 20, 30)


def get_metric_data(request: Request) -> dict[str, Any]:
    """Respond to GetMetricData; raise CloudWatchError for a request that CloudWatch refuses."""
    queries = list(request.get("MetricDataQueries") or [])
    _check_queries(queries)
    start, end = _times(request)
    order = request.get("ScanBy") or "TimestampDescending"
    if order not in ("TimestampDescending", "TimestampAscending"):
        raise _invalid(f"The value {order} for parameter ScanBy is not supported.")
    most = int(request.get("MaxDatapoints") or _MOST_DATAPOINTS)
    if not 1 <= most <= _MOST_DATAPOINTS:
        raise _invalid(f"The value {most} for parameter MaxDatapoints must be from 1 to {_MOST_DATAPOINTS}.")
    series = _series(queries, start, end)
    shown = [query for query in queries if _is_true(query.get("ReturnData", True))]
    results = [
        {
            "Id": query["Id"],
            "Label": query.get("Label") or _label(query),
            "Points": sorted(series[query["Id"]].items(), reverse=order == "TimestampDescending"),
        }
        for query in shown
    ]
    return _page(results, most, request.get("NextToken"))


def _page(results: Sequence[Mapping[str, Any]], most: int, token: str | None) -> dict[str, Any]:
    """Return the datapoints of one page: the next `most` ones of all results, one result after the other."""
    first = _offset(token)
    page, passed = [], 0
    for result in results:
        points = result["Points"]
        begin, end = (min(max(each - passed, 0), len(points)) for each in (first, first + most))
        passed += len(points)
        if begin == end and (points or first):
            continue
        page.append(
            {
                "Id": result["Id"],
                "Label": result["Label"],
                "Timestamps": [moment for moment, _ in points[begin:end]],
                "Values": [value for _, value in points[begin:end]],
                "StatusCode": "Complete" if end == len(points) else "PartialData",
            }
        )
    more = {"NextToken": base64.b64encode(str(first + most).encode()).decode()} if passed > first + most else {}
    return {"MetricDataResults": page, "Messages": [], **more}


def _offset(token: str | None) -> int:
    try:
        return int(base64.b64decode(token, validate=True)) if token else 0
    except (binascii.Error, ValueError) as error:
        raise CloudWatchError("InvalidNextToken", "The specified next token is invalid.") from error


def _check_queries(queries: Sequence[Mapping[str, Any]]) -> None:
    if not 1 <= len(queries) <= _MOST_QUERIES:
        raise _invalid(f"The collection MetricDataQueries must have from 1 to {_MOST_QUERIES} items.")
    seen: set[str] = set()
    for number, query in enumerate(queries, 1):
        where, id = f"MetricDataQueries.member.{number}", str(query.get("Id") or "")
        if not _ID.fullmatch(id):
            raise _invalid(f"The value {id} for parameter {where}.Id does not match the pattern {_ID.pattern}.")
        if id in seen:
            raise _invalid(f"The values for parameter Id are not unique: {id}.")
        seen.add(id)
        if bool(query.get("Expression")) == bool(query.get("MetricStat")):
            raise _invalid(f"Exactly one of Expression and MetricStat must be specified in {where}.")
        if given := query.get("MetricStat"):
            _check_period(given.get("Period"), f"{where}.MetricStat.Period", _SUBMINUTE)
            _check_statistic(given.get("Stat"), f"{where}.MetricStat.Stat")


def _series(queries: Sequence[Mapping[str, Any]], start: float, end: float) -> dict[str, Series]:
    """Return the values of every query by ID; expressions may refer to later queries."""
    found = {query["Id"]: _measured(query["MetricStat"], start, end) for query in queries if query.get("MetricStat")}
    metrics = tuple(found)
    waiting = [query for query in queries if query.get("Expression")]
    while waiting:
        ids = {query["Id"] for query in waiting}
        ready = [query for query in waiting if not ids & set(_NAMES.findall(query["Expression"])) - {query["Id"]}]
        if not ready:
            raise _invalid(f"Expressions refer to each other: {', '.join(sorted(ids))}.")
        for query in ready:
            try:
                found[query["Id"]] = evaluate(query["Expression"], found, metrics)
            except MathError as error:
                raise _invalid(f"Error in expression '{query['Id']}': {error}") from error
        waiting = [query for query in waiting if query not in ready]
    return found


def _measured(given: Mapping[str, Any], start: float, end: float) -> Series:
    metric, period = given["Metric"], int(given["Period"])
    dimensions = {each["Name"]: each["Value"] for each in metric.get("Dimensions") or []}
    points = cloudwatch.metric_points(metric.get("Namespace", ""), metric.get("MetricName", ""), dimensions)
    # CloudWatch rounds the start down to a whole period.
    first = start // period * period
    periods: dict[int, list[Mapping[str, Any]]] = {}
    for point in points:
        if first <= point["Timestamp"] < end:
            periods.setdefault(int(point["Timestamp"] // period * period), []).append(point)
    value = statistic(given["Stat"])
    found = {moment: value(samples(some)) for moment, some in periods.items()}
    return {moment: number for moment, number in found.items() if number is not None}


def samples(points: Points) -> Samples:
    """Return the samples of stored datapoints: values seen a number of times, or statistic sets."""
    parts = list(_parts(points))
    hidden = any(values is None for *_, values in parts) or any(low < 0 for _, _, low, _, _ in parts)
    return Samples(
        count=sum(count for count, *_ in parts),
        total=sum(total for _, total, *_ in parts),
        low=min(low for _, _, low, _, _ in parts),
        high=max(high for _, _, _, high, _ in parts),
        values=None if hidden else [each for *_, values in parts for each in values or ()],
    )


def _parts(points: Points) -> Iterator[tuple[float, float, float, float, list[tuple[float, float]] | None]]:
    for point in points:
        if (given := point.get("_stat")) is None:
            value, count = float(point["Value"]), float(point.get("Count", 1.0))
            yield count, value * count, value, value, [(value, count)]
            continue
        count, total, low, high = (float(given.get(each, 0)) for each in ("SampleCount", "Sum", "Minimum", "Maximum"))
        # A set of one repeated value hides nothing.
        yield count, total, low, high, [(low, count)] if low == high and total == low * count else None


def check_statistics_request(request: Request) -> None:
    """Refuse a GetMetricStatistics request as CloudWatch does."""
    _times(request)
    _check_period(request.get("Period"), "Period", _SUBMINUTE)
    simple, extended = (list(request.get(each) or []) for each in ("Statistics", "ExtendedStatistics"))
    if not simple and not extended:
        raise CloudWatchError(
            "InvalidParameterCombination",
            "At least one of the parameters Statistics and ExtendedStatistics must be set.",
        )
    for each in (*simple, *extended):
        _check_statistic(each, "ExtendedStatistics" if each in extended else "Statistics")


def check_alarm(request: Request) -> None:
    """Refuse a PutMetricAlarm request as CloudWatch does, and metric math, which is not evaluated here."""
    if request.get("Metrics"):
        raise _invalid("The local account does not evaluate alarms on metric math: give MetricName instead of Metrics.")
    simple, extended = request.get("Statistic"), request.get("ExtendedStatistic")
    if bool(simple) == bool(extended):
        raise CloudWatchError(
            "InvalidParameterCombination", "Exactly one of the parameters Statistic and ExtendedStatistic must be set."
        )
    _check_statistic(simple or extended, "Statistic" if simple else "ExtendedStatistic")
    _check_period(request.get("Period"), "Period", _ALARM_PERIODS)
    periods = int(request.get("EvaluationPeriods") or 0)
    if periods < 1:
        raise _invalid("The parameter EvaluationPeriods must be at least 1.")
    if int(request.get("DatapointsToAlarm") or periods) > periods:
        raise _invalid("The parameter DatapointsToAlarm must not be greater than EvaluationPeriods.")
    if request.get("Threshold") is None:
        raise _invalid("The parameter Threshold must be set.")


def check_dashboard(request: Request) -> None:
    """Refuse a dashboard whose body is not JSON with a list of widgets."""
    try:
        body = json.loads(request.get("DashboardBody") or "")
    except ValueError as error:
        raise CloudWatchError("InvalidParameterInput", f"The dashboard body is not valid JSON: {error}") from error
    if not isinstance(body, dict) or not isinstance(body.get("widgets"), list):
        raise CloudWatchError("InvalidParameterInput", "The dashboard body must have a list of widgets.")


def list_dashboards(request: Request) -> dict[str, Any]:
    """Respond to ListDashboards."""
    prefix = request.get("DashboardNamePrefix") or ""
    members = ("DashboardName", "DashboardArn", "LastModified", "Size")
    found = [each for each in cloudwatch.dashboards() if each["DashboardName"].startswith(prefix)]
    return {"DashboardEntries": [{member: each[member] for member in members} for each in found]}


def alarm_is_for_metric(alarm: cloudwatch.Alarm, request: Request) -> bool:
    """Return whether DescribeAlarmsForMetric returns an alarm: it is on exactly this metric and matches the request."""
    dimensions, wanted = (
        {each["Name"]: each["Value"] for each in source.get("Dimensions") or []} for source in (alarm, request)
    )
    narrowing = ("Statistic", "ExtendedStatistic", "Unit", "Period")
    return (
        (alarm.get("Namespace"), alarm.get("MetricName")) == (request.get("Namespace"), request.get("MetricName"))
        and dimensions == wanted
        and all(str(alarm.get(each)) == str(request[each]) for each in narrowing if request.get(each))
    )


def _times(request: Request) -> tuple[float, float]:
    start, end = (cloudwatch.seconds(request.get(name)) for name in ("StartTime", "EndTime"))
    if start is None or end is None:
        raise _invalid("The parameters StartTime and EndTime must be set.")
    if start >= end:
        raise _invalid("The parameter StartTime must be less than the parameter EndTime.")
    return start, end


def _check_period(value: Any, where: str, below_a_minute: Sequence[int]) -> None:
    period = int(value or 0)
    if period not in below_a_minute and (period < 60 or period % 60):
        allowed = ", ".join(map(str, below_a_minute))
        raise _invalid(f"The parameter {where} must be {allowed} or a multiple of 60.")


def _check_statistic(name: Any, where: str) -> None:
    try:
        statistic(str(name))
    except StatisticError as error:
        raise _invalid(f"The value {name} for parameter {where} is not supported: {error}.") from error


def _label(query: Mapping[str, Any]) -> str:
    return str(query["Id"] if query.get("Expression") else query["MetricStat"]["Metric"].get("MetricName", ""))


def _is_true(value: Any) -> bool:
    return value if isinstance(value, bool) else str(value).lower() != "false"


def _invalid(message: str) -> CloudWatchError:
    return CloudWatchError("ValidationError", message)


def register() -> None:
    """Register the operations that MiniStack lacks, and the checks that it omits."""
    cloudwatch.replace_operation("GetMetricData", get_metric_data)
    cloudwatch.replace_operation("ListDashboards", list_dashboards)
    cloudwatch.filter_alarms_for_metric(alarm_is_for_metric)
    cloudwatch.check_operation("GetMetricStatistics", check_statistics_request)
    cloudwatch.check_operation("PutMetricAlarm", check_alarm)
    cloudwatch.check_alarms_of_templates(check_alarm)
    cloudwatch.check_operation("PutDashboard", check_dashboard)
    cloudwatch.replace_statistics(lambda points, name: statistic(name)(samples(points)) if points else None)
