"""CloudWatch's requests on alarms: what it refuses, and which alarms are on a metric.

Source: the API reference of PutMetricAlarm and DescribeAlarmsForMetric.
"""

from local_aws.emulator.metric_requests import Request, check_period, check_statistic, invalid
from local_aws.emulator.ministack import cloudwatch
from local_aws.emulator.ministack.cloudwatch import CloudWatchError

_PERIODS = (10, 20, 30)
"""Periods below a minute that an alarm can have."""
_ACTIONS = ("OKActions", "AlarmActions", "InsufficientDataActions")
_TAKEN = ("sns", "autoscaling")
"""Services whose resources can be actions here: topics and scaling policies."""


def check_alarm(request: Request) -> None:
    """Refuse a PutMetricAlarm request as CloudWatch does, and metric math, which is not evaluated here."""
    if request.get("Metrics"):
        raise invalid("The local account does not evaluate alarms on metric math: give MetricName instead of Metrics.")
    simple, extended = request.get("Statistic"), request.get("ExtendedStatistic")
    if bool(simple) == bool(extended):
        raise CloudWatchError(
            "InvalidParameterCombination", "Exactly one of the parameters Statistic and ExtendedStatistic must be set."
        )
    check_statistic(simple or extended, "Statistic" if simple else "ExtendedStatistic")
    check_period(request.get("Period"), "Period", _PERIODS)
    periods = int(request.get("EvaluationPeriods") or 0)
    if periods < 1:
        raise invalid("The parameter EvaluationPeriods must be at least 1.")
    if int(request.get("DatapointsToAlarm") or periods) > periods:
        raise invalid("The parameter DatapointsToAlarm must not be greater than EvaluationPeriods.")
    if request.get("Threshold") is None:
        raise invalid("The parameter Threshold must be set.")
    for action in (each for name in _ACTIONS for each in request.get(name) or []):
        if action.split(":")[2:3] not in ([service] for service in _TAKEN):
            raise invalid(f"The local account has no action {action}: give SNS topics or scaling policies.")


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
