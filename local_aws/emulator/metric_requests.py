"""What CloudWatch's requests on metrics have in common: what they name, and what CloudWatch refuses."""

from collections.abc import Mapping, Sequence
from typing import Any

from local_aws.emulator.metric_points import Metric
from local_aws.emulator.ministack import cloudwatch
from local_aws.emulator.ministack.cloudwatch import CloudWatchError
from local_aws.emulator.ministack.responses import account_id, region
from local_aws.emulator.statistics import StatisticError, statistic

Request = Mapping[str, Any]
SUBMINUTE_PERIODS = (1, 5, 10, 20, 30)
"""Periods below a minute that a client can read (API reference of GetMetricStatistics)."""


def scope() -> str:
    """Return the account and region of the current request, whose metrics no other has."""
    return f"{account_id()}/{region()}"


def metric_of(request: Request, namespace: str | None = None) -> Metric:
    """Return the metric that a structure names, in its own namespace or in that of its request."""
    pairs = sorted((str(each["Name"]), str(each["Value"])) for each in request.get("Dimensions") or [])
    return Metric(str(namespace or request.get("Namespace", "")), str(request.get("MetricName", "")), tuple(pairs))


def times(request: Request) -> tuple[float, float]:
    """Return the start and end of a request in seconds since 1970; raise CloudWatchError."""
    start, end = (cloudwatch.seconds(request.get(name)) for name in ("StartTime", "EndTime"))
    if start is None or end is None:
        raise invalid("The parameters StartTime and EndTime must be set.")
    if start >= end:
        raise invalid("The parameter StartTime must be less than the parameter EndTime.")
    return start, end


def check_period(value: Any, where: str, below_a_minute: Sequence[int]) -> None:
    """Raise CloudWatchError unless a period is one of those below a minute, or whole minutes."""
    period = int(value or 0)
    if period not in below_a_minute and (period < 60 or period % 60):
        allowed = ", ".join(map(str, below_a_minute))
        raise invalid(f"The parameter {where} must be {allowed} or a multiple of 60.")


def check_statistic(name: Any, where: str) -> None:
    """Raise CloudWatchError unless CloudWatch has a statistic of this name."""
    try:
        statistic(str(name))
    except StatisticError as error:
        raise invalid(f"The value {name} for parameter {where} is not supported: {error}.") from error


def invalid(message: str) -> CloudWatchError:
    """Return CloudWatch's error for input that breaks a rule."""
    return CloudWatchError("ValidationError", message)
