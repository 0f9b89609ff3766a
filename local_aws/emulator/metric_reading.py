"""GetMetricStatistics and ListMetrics in the emulator.

Source: their API reference.
"""

import math
import time
from typing import Any

from local_aws import page_tokens
from local_aws.emulator import telemetry
from local_aws.emulator.metric_points import Metric, Point, merged
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

_MOST_DATAPOINTS = 1440
_LISTED = 500
_RECENT_SECONDS = 3 * 3600
_DAY = 86_400
_ROUNDING = ((15 * _DAY, 60), (63 * _DAY, 300), (math.inf, 3600))
"""Start times are rounded down to a multiple of a number of seconds that depends on their age: (age, multiple)."""


def get_metric_statistics(request: Request) -> dict[str, Any]:
    """Respond to GetMetricStatistics; raise CloudWatchError for a request that CloudWatch refuses."""
    simple, extended = (list(request.get(each) or []) for each in ("Statistics", "ExtendedStatistics"))
    _check(request, simple, extended)
    start, end = times(request)
    period = int(request["Period"])
    start = _rounded(start, period)
    asked = math.ceil((end - start) / period)
    if asked > _MOST_DATAPOINTS:
        raise CloudWatchError(
            "InvalidParameterCombination",
            f"You have requested up to {asked:,} datapoints, which exceeds the limit of {_MOST_DATAPOINTS:,}. You may "
            "reduce the datapoints requested by increasing Period, or decreasing the time range.",
        )
    points = telemetry.metrics().points(scope(), metric_of(request), start, end, request.get("Unit"))
    periods: dict[tuple[int, str], list[Point]] = {}
    for point in points:
        periods.setdefault((point.start // period * period, point.unit), []).append(point)
    return {
        "Label": request.get("MetricName", ""),
        "Datapoints": [_datapoint(*key, some, simple, extended) for key, some in sorted(periods.items())],
    }


def _datapoint(moment: int, unit: str, points: list[Point], simple: list[str], extended: list[str]) -> dict[str, Any]:
    samples = merged([point.samples for point in points])
    values = {name: statistic(name)(samples) for name in (*simple, *extended)}
    shown = {name: values[name] for name in extended if values[name] is not None}
    return {
        "Timestamp": moment,
        **{name: values[name] for name in simple},
        "Unit": unit,
        **({"ExtendedStatistics": shown} if shown else {}),
    }


def _check(request: Request, simple: list[str], extended: list[str]) -> None:
    check_period(request.get("Period"), "Period", SUBMINUTE_PERIODS)
    if not simple and not extended:
        raise CloudWatchError(
            "InvalidParameterCombination",
            "At least one of the parameters Statistics and ExtendedStatistics must be set.",
        )
    for names, where in ((simple, "Statistics"), (extended, "ExtendedStatistics")):
        for name in names:
            check_statistic(name, where)


def _rounded(start: float, period: int) -> float:
    if period < 60:
        return start // period * period
    age = time.time() - start
    whole = next(seconds for oldest, seconds in _ROUNDING if age < oldest)
    return start // whole * whole


def list_metrics(request: Request) -> dict[str, Any]:
    """Respond to ListMetrics; raise CloudWatchError for a request that CloudWatch refuses."""
    recent = request.get("RecentlyActive")
    if recent not in (None, "", "PT3H"):
        raise invalid(f"The value {recent} for parameter RecentlyActive must be PT3H.")
    now = time.time()
    since = now - _RECENT_SECONDS if recent else -math.inf
    metrics = telemetry.metrics().metrics(scope(), now)
    found = [metric for metric, newest in metrics if newest >= since and _matches(metric, request)]
    first = _offset(request.get("NextToken"))
    last = first + _LISTED
    more = {"NextToken": page_tokens.encode(last)} if last < len(found) else {}
    return {"Metrics": [_description(metric) for metric in found[first:last]], **more}


def _matches(metric: Metric, request: Request) -> bool:
    dimensions = dict(metric.dimensions)
    return (
        request.get("Namespace") in (None, "", metric.namespace)
        and request.get("MetricName") in (None, "", metric.name)
        and all(
            each["Name"] in dimensions and each.get("Value") in (None, "", dimensions[each["Name"]])
            for each in request.get("Dimensions") or []
        )
    )


def _description(metric: Metric) -> dict[str, Any]:
    return {
        "Namespace": metric.namespace,
        "MetricName": metric.name,
        "Dimensions": [{"Name": name, "Value": value} for name, value in metric.dimensions],
    }


def _offset(token: str | None) -> int:
    try:
        return page_tokens.decode(token)
    except ValueError as error:
        raise CloudWatchError("InvalidParameterValue", "The specified next token is invalid.") from error
