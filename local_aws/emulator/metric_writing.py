"""PutMetricData in the emulator, and the metrics that its own services record.

Source: the API reference of PutMetricData and MetricDatum.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from local_aws.emulator import telemetry
from local_aws.emulator.metric_points import Datum, of_statistic_set, of_values
from local_aws.emulator.metric_requests import Request, metric_of, scope
from local_aws.emulator.ministack import cloudwatch
from local_aws.emulator.ministack.cloudwatch import CloudWatchError
from local_aws.emulator.statistics import Samples

_MOST_DATA, _MOST_VALUES, _MOST_DIMENSIONS = 1000, 150, 30
_LARGEST = 2.0**360
_RESOLUTIONS = (1, 60)
_PAST_SECONDS, _FUTURE_SECONDS = 14 * 24 * 3600, 2 * 3600
_SET = ("SampleCount", "Sum", "Minimum", "Maximum")
_NO_UNIT = "None"


def put_metric_data(request: Request) -> dict[str, Any]:
    """Respond to PutMetricData; raise CloudWatchError for a request that CloudWatch refuses."""
    given = list(request.get("MetricData") or [])
    if not given:
        raise CloudWatchError("MissingParameter", "The parameter MetricData is required.")
    if len(given) > _MOST_DATA:
        raise _refused(f"The collection MetricData must not have a size greater than {_MOST_DATA}.")
    now = time.time()
    # Read all of them first: a request with one bad datum stores nothing.
    data = [
        _datum(str(request.get("Namespace", "")), each, f"MetricData.member.{n}", now) for n, each in _numbered(given)
    ]
    telemetry.metrics().add(scope(), data)
    cloudwatch.evaluate_alarms()
    return {}


def record_metric(namespace: str, name: str, value: float, unit: str, dimensions: Mapping[str, str]) -> None:
    """Add a value that a service of the emulator measured now."""
    pairs = [{"Name": key, "Value": each} for key, each in dimensions.items()]
    metric = metric_of({"MetricName": name, "Dimensions": pairs}, namespace)
    telemetry.metrics().add(scope(), [Datum(metric, unit, time.time(), 60, of_values([(float(value), 1.0)]))])


def _numbered(given: Sequence[Request]) -> Iterator[tuple[int, Request]]:
    return enumerate(given, 1)


def _datum(namespace: str, given: Request, where: str, now: float) -> Datum:
    if len(given.get("Dimensions") or ()) > _MOST_DIMENSIONS:
        raise _refused(f"The collection {where}.Dimensions must not have a size greater than {_MOST_DIMENSIONS}.")
    resolution = int(given.get("StorageResolution") or 60)
    if resolution not in _RESOLUTIONS:
        raise _refused(f"The value {resolution} for parameter {where}.StorageResolution must be 1 or 60.")
    moment = cloudwatch.seconds(given.get("Timestamp"))
    at = now if moment is None else moment
    if not now - _PAST_SECONDS <= at <= now + _FUTURE_SECONDS:
        raise _refused(
            f"The parameter {where}.Timestamp must specify a time within the past two weeks and the next two hours."
        )
    metric = metric_of(given, namespace)
    return Datum(metric, given.get("Unit") or _NO_UNIT, at, resolution, _samples(given, where))


def _samples(given: Request, where: str) -> Samples:
    kinds = [name for name in ("Value", "Values", "StatisticValues") if given.get(name) is not None]
    if len(kinds) != 1:
        raise CloudWatchError(
            "InvalidParameterCombination",
            f"Exactly one of the parameters {where}.Value, {where}.Values and {where}.StatisticValues must be "
            f"specified, instead of {', '.join(kinds) or 'none'}.",
        )
    if kinds == ["StatisticValues"]:
        return of_statistic_set(*(_number(given["StatisticValues"].get(name), f"{where}.{name}") for name in _SET))
    if kinds == ["Value"]:
        return of_values([(_number(given["Value"], f"{where}.Value"), 1.0)])
    values = [_number(value, f"{where}.Values") for value in given["Values"]]
    counts = [_number(count, f"{where}.Counts") for count in given.get("Counts") or [1.0] * len(values)]
    if not 1 <= len(values) <= _MOST_VALUES:
        raise _refused(f"The collection {where}.Values must have a size from 1 to {_MOST_VALUES}.")
    if len(counts) != len(values):
        raise _refused(f"The parameters {where}.Values and {where}.Counts must be of the same size.")
    if min(counts) <= 0:
        raise _refused(f"The parameter {where}.Counts must be greater than 0.")
    return of_values(zip(values, counts, strict=True))


def _number(value: Any, where: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not -_LARGEST <= number <= _LARGEST:
        raise _refused(f"The value {value} for parameter {where} is invalid.")
    return number


def _refused(message: str) -> CloudWatchError:
    return CloudWatchError("InvalidParameterValue", message)
