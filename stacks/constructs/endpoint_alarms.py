"""Alarms of a variant or inference component, and the composite alarm that sends notifications."""

from collections.abc import Mapping, Sequence

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_sns as sns
from constructs import Construct

from stacks.settings.hosting import EndpointAlarms

RUNBOOK = "docs/runbook.md"
"""What an alarm means, what to look at, and what to do, by the alarm's kind."""


def alarm_names(endpoint_name: str, variants: Sequence[str], *, multi_model: bool) -> list[str]:
    """Return the names of an endpoint's alarms; its role, which is created first, may describe only these."""
    kinds = ["latency", "server-errors", *(["loading-wait"] if multi_model else [])]
    return [f"{endpoint_name}-{variant}-{kind}" for variant in variants for kind in kinds]


def endpoint_alarm_name(endpoint_name: str) -> str:
    """Return the name of the composite alarm over an endpoint's alarms."""
    return f"{endpoint_name}-any"


def endpoint_alarm(
    scope: Construct, *, endpoint_name: str, alarms: Sequence[cloudwatch.IAlarm], alerts: sns.ITopic
) -> cloudwatch.CompositeAlarm:
    """Return a composite alarm that fires with the first of the endpoint's alarms.

    Only it notifies, so one fault sends one message. Guardrails watch the single alarms, because SageMaker's guide
    mentions only metric alarms.
    """
    composite = cloudwatch.CompositeAlarm(
        scope,
        "AnyAlarm",
        composite_alarm_name=endpoint_alarm_name(endpoint_name),
        alarm_description=(
            f"An alarm of endpoint {endpoint_name} is firing. The state reason names it. See {RUNBOOK}#any"
        ),
        alarm_rule=cloudwatch.AlarmRule.any_of(*alarms),
    )
    composite.add_alarm_action(actions.SnsAction(alerts))
    return composite


def serving_alarms(
    scope: Construct,
    *,
    endpoint_name: str,
    variant: str,
    dimensions: Mapping[str, str],
    alarms: EndpointAlarms,
    multi_model: bool,
) -> list[cloudwatch.Alarm]:
    """Return alarms on latency, errors and, for a multi-model endpoint, model loading, with these dimensions.

    They do not notify; `endpoint_alarm` does.

    variant: prefix of construct IDs; part of the alarm names.
    """

    def metric(name: str, statistic: str) -> cloudwatch.Metric:
        return cloudwatch.Metric(
            namespace="AWS/SageMaker",
            metric_name=name,
            dimensions_map=dict(dimensions),
            statistic=statistic,
            period=Duration.minutes(1),
        )

    made = [
        _alarm(
            scope,
            f"{variant}Latency",
            name=f"{endpoint_name}-{variant}-latency",
            description=(
                f"P99 ModelLatency of {variant} is over {alarms.p99_model_latency_ms:g} ms; see {RUNBOOK}#latency"
            ),
            metric=metric("ModelLatency", "p99"),
            threshold=alarms.p99_model_latency_ms * 1000,
        ),
        cloudwatch.Alarm(
            scope,
            f"{variant}ServerErrors",
            alarm_name=f"{endpoint_name}-{variant}-server-errors",
            alarm_description=(
                f"{variant} returned {alarms.server_errors} or more 5XX responses in a minute; "
                f"see {RUNBOOK}#server-errors"
            ),
            metric=metric("Invocation5XXErrors", "Sum"),
            threshold=alarms.server_errors,
            evaluation_periods=1,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        ),
    ]
    if multi_model:
        made.append(
            _alarm(
                scope,
                f"{variant}LoadingWait",
                name=f"{endpoint_name}-{variant}-loading-wait",
                description=(
                    f"requests of {variant} wait more than {alarms.model_loading_wait_ms:g} ms for models; "
                    f"see {RUNBOOK}#loading-wait"
                ),
                metric=metric("ModelLoadingWaitTime", "Average"),
                threshold=alarms.model_loading_wait_ms * 1000,
            )
        )
    return made


def _alarm(
    scope: Construct, construct_id: str, *, name: str, description: str, metric: cloudwatch.Metric, threshold: float
) -> cloudwatch.Alarm:
    """Return an alarm for two of three minutes over the threshold, so one slow minute does not fire it."""
    return cloudwatch.Alarm(
        scope,
        construct_id,
        alarm_name=name,
        alarm_description=description,
        metric=metric,
        threshold=threshold,
        evaluation_periods=3,
        datapoints_to_alarm=2,
        comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
        treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
    )
