"""GetMetricData in the emulator, with metric math.

Source: the API reference of GetMetricData.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from local_aws import page_tokens
from local_aws.emulator import telemetry
from local_aws.emulator.metric_points import Point, merged
from local_aws.emulator.metric_requests import (
    SUBMINUTE_PERIODS,
    Request,
    check_period,
    check_statistic,
    invalid,
    metric_of,
    scope,
    times,
)
from local_aws.emulator.ministack.cloudwatch import CloudWatchError
from local_aws.emulator.statistics import statistic
from local_aws.metric_math import MathError, evaluate
from local_aws.metric_math import Points as Series

_MOST_QUERIES, _MOST_DATAPOINTS = 500, 100_800
_ID = re.compile(r"[a-z][A-Za-z0-9_]*")
_NAMES = re.compile(r"\b[a-z][A-Za-z0-9_]*\b")


def get_metric_data(request: Request) -> dict[str, Any]:
    """Respond to GetMetricData; raise CloudWatchError for a request that CloudWatch refuses."""
    queries = list(request.get("MetricDataQueries") or [])
    _check_queries(queries)
    start, end = times(request)
    order = request.get("ScanBy") or "TimestampDescending"
    if order not in ("TimestampDescending", "TimestampAscending"):
        raise invalid(f"The value {order} for parameter ScanBy is not supported.")
    most = int(request.get("MaxDatapoints") or _MOST_DATAPOINTS)
    if not 1 <= most <= _MOST_DATAPOINTS:
        raise invalid(f"The value {most} for parameter MaxDatapoints must be from 1 to {_MOST_DATAPOINTS}.")
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
    more = {"NextToken": page_tokens.encode(first + most)} if passed > first + most else {}
    return {"MetricDataResults": page, "Messages": [], **more}


def _offset(token: str | None) -> int:
    try:
        return page_tokens.decode(token)
    except ValueError as error:
        raise CloudWatchError("InvalidNextToken", "The specified next token is invalid.") from error


def _check_queries(queries: Sequence[Mapping[str, Any]]) -> None:
    if not 1 <= len(queries) <= _MOST_QUERIES:
        raise invalid(f"The collection MetricDataQueries must have from 1 to {_MOST_QUERIES} items.")
    seen: set[str] = set()
    for number, query in enumerate(queries, 1):
        where, id = f"MetricDataQueries.member.{number}", str(query.get("Id") or "")
        if not _ID.fullmatch(id):
            raise invalid(f"The value {id} for parameter {where}.Id does not match the pattern {_ID.pattern}.")
        if id in seen:
            raise invalid(f"The values for parameter Id are not unique: {id}.")
        seen.add(id)
        if bool(query.get("Expression")) == bool(query.get("MetricStat")):
            raise invalid(f"Exactly one of Expression and MetricStat must be specified in {where}.")
        if given := query.get("MetricStat"):
            check_period(given.get("Period"), f"{where}.MetricStat.Period", SUBMINUTE_PERIODS)
            check_statistic(given.get("Stat"), f"{where}.MetricStat.Stat")


def _series(queries: Sequence[Mapping[str, Any]], start: float, end: float) -> dict[str, Series]:
    """Return the values of every query by ID; expressions may refer to later queries."""
    found = {query["Id"]: _measured(query["MetricStat"], start, end) for query in queries if query.get("MetricStat")}
    metrics = tuple(found)
    waiting = [query for query in queries if query.get("Expression")]
    while waiting:
        ids = {query["Id"] for query in waiting}
        ready = [query for query in waiting if not ids & set(_NAMES.findall(query["Expression"])) - {query["Id"]}]
        if not ready:
            raise invalid(f"Expressions refer to each other: {', '.join(sorted(ids))}.")
        for query in ready:
            try:
                found[query["Id"]] = evaluate(query["Expression"], found, metrics)
            except MathError as error:
                raise invalid(f"Error in expression '{query['Id']}': {error}") from error
        waiting = [query for query in waiting if query not in ready]
    return found


def _measured(given: Mapping[str, Any], start: float, end: float) -> Series:
    period = int(given["Period"])
    # CloudWatch rounds the start down to a whole period.
    first = start // period * period
    points = telemetry.metrics().points(scope(), metric_of(given["Metric"]), first, end, given.get("Unit"))
    periods: dict[int, list[Point]] = {}
    for point in points:
        periods.setdefault(point.start // period * period, []).append(point)
    value = statistic(given["Stat"])
    found = {moment: value(merged([point.samples for point in some])) for moment, some in periods.items()}
    return {moment: number for moment, number in found.items() if number is not None}


def _label(query: Mapping[str, Any]) -> str:
    return str(query["Id"] if query.get("Expression") else query["MetricStat"]["Metric"].get("MetricName", ""))


def _is_true(value: Any) -> bool:
    return value if isinstance(value, bool) else str(value).lower() != "false"
