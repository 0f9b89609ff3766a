"""Application Auto Scaling of a variant's instances or an inference component's copies."""

from collections.abc import Mapping
from dataclasses import dataclass

from aws_cdk import CfnResource
from aws_cdk import aws_applicationautoscaling as autoscaling
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from stacks.settings.scaling import Scaling, StepScaling


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaled:
    """Names of a scalable target in CloudWatch and Application Auto Scaling.

    label: prefix of construct IDs. name: prefix of the names of policies, scheduled actions and alarms.
    unit: "instance" or "copy". invocations, concurrency: predefined metrics that can be tracked.
    rate: metric of invocations per minute and unit, with these dimensions.
    """

    label: str
    name: str
    unit: str
    resource_id: str
    dimension: str
    invocations: str
    concurrency: str
    rate: str
    dimensions: Mapping[str, str]


def scaled_variant(endpoint_name: str, variant: str) -> Scaled:
    """Return the scalable dimension of a variant that holds a model: its instances."""
    return Scaled(
        label=variant,
        name=f"{endpoint_name}-{variant}",
        unit="instance",
        resource_id=f"endpoint/{endpoint_name}/variant/{variant}",
        dimension="sagemaker:variant:DesiredInstanceCount",
        invocations="SageMakerVariantInvocationsPerInstance",
        concurrency="SageMakerVariantConcurrentRequestsPerModelHighResolution",
        rate="InvocationsPerInstance",
        dimensions={"EndpointName": endpoint_name, "VariantName": variant},
    )


def scaled_component(component: str, label: str) -> Scaled:
    """Return the scalable dimension of an inference component: its copies."""
    return Scaled(
        label=label,
        name=f"{component}-{label}",
        unit="copy",
        resource_id=f"inference-component/{component}",
        dimension="sagemaker:inference-component:DesiredCopyCount",
        invocations="SageMakerInferenceComponentInvocationsPerCopy",
        concurrency="SageMakerInferenceComponentConcurrentRequestsPerCopyHighResolution",
        rate="InvocationsPerCopy",
        dimensions={"InferenceComponentName": component},
    )


def add_scaling(scope: Construct, scaled: Scaled, scaling: Scaling, *, after: CfnResource) -> None:
    """Add the scalable target and its policies, which depend on the resource that they scale.

    If the capacity may be zero, a separate policy starts the first copy for a rejected request.
    """
    target = autoscaling.CfnScalableTarget(
        scope,
        f"{scaled.label}Target",
        service_namespace="sagemaker",
        scalable_dimension=scaled.dimension,
        resource_id=scaled.resource_id,
        min_capacity=scaling.min_capacity,
        max_capacity=scaling.max_capacity,
        scheduled_actions=[
            autoscaling.CfnScalableTarget.ScheduledActionProperty(
                scheduled_action_name=f"{scaled.name}-{name.replace('_', '-')}",
                schedule=schedule.schedule,
                timezone=schedule.timezone,
                scalable_target_action=autoscaling.CfnScalableTarget.ScalableTargetActionProperty(
                    min_capacity=schedule.min_capacity, max_capacity=schedule.max_capacity
                ),
            )
            for name, schedule in scaling.schedules.items()
        ]
        or None,
    )
    target.add_resource_dependency(after)
    if scaling.target_value is not None:
        autoscaling.CfnScalingPolicy(
            scope,
            f"{scaled.label}Policy",
            policy_name=scaled.name,
            policy_type="TargetTrackingScaling",
            scaling_target_id=target.ref,
            target_tracking_scaling_policy_configuration=autoscaling.CfnScalingPolicy.TargetTrackingScalingPolicyConfigurationProperty(
                target_value=scaling.target_value,
                scale_in_cooldown=scaling.scale_in_cooldown_seconds,
                scale_out_cooldown=scaling.scale_out_cooldown_seconds,
                predefined_metric_specification=autoscaling.CfnScalingPolicy.PredefinedMetricSpecificationProperty(
                    predefined_metric_type=scaled.concurrency if scaling.tracks_concurrency else scaled.invocations
                ),
            ),
        )
    if scaling.step is not None:
        _add_steps(scope, scaled, scaling.step, target)
    if scaling.reaches_zero:
        _add_scale_from_zero(scope, scaled, target)


def _add_steps(scope: Construct, scaled: Scaled, step: StepScaling, target: autoscaling.CfnScalableTarget) -> None:
    uppers = [*(adjustment.over for adjustment in step.steps[1:]), None]
    policy = autoscaling.CfnScalingPolicy(
        scope,
        f"{scaled.label}Steps",
        policy_name=f"{scaled.name}-steps",
        policy_type="StepScaling",
        scaling_target_id=target.ref,
        step_scaling_policy_configuration=autoscaling.CfnScalingPolicy.StepScalingPolicyConfigurationProperty(
            adjustment_type="ChangeInCapacity",
            metric_aggregation_type="Average",
            cooldown=step.cooldown_seconds,
            step_adjustments=[
                autoscaling.CfnScalingPolicy.StepAdjustmentProperty(
                    metric_interval_lower_bound=adjustment.over,
                    metric_interval_upper_bound=upper,
                    scaling_adjustment=adjustment.change,
                )
                for adjustment, upper in zip(step.steps, uppers, strict=True)
            ],
        ),
    )
    cloudwatch.CfnAlarm(
        scope,
        f"{scaled.label}StepsAlarm",
        alarm_name=f"{scaled.name}-steps",
        alarm_description=f"{scaled.label} gets more than {step.threshold:g} invocations per minute and {scaled.unit}",
        namespace="AWS/SageMaker",
        metric_name=scaled.rate,
        dimensions=_dimensions(scaled),
        # SageMaker publishes the metric with a value per request: its sum over a minute is the rate.
        statistic="Sum",
        period=60,
        threshold=step.threshold,
        evaluation_periods=step.evaluation_periods,
        comparison_operator="GreaterThanThreshold",
        treat_missing_data="notBreaching",
        alarm_actions=[policy.ref],
    )


def _add_scale_from_zero(scope: Construct, scaled: Scaled, target: autoscaling.CfnScalableTarget) -> None:
    """Add a policy that starts one copy after the first rejected request; target tracking cannot scale from 0.

    Source: "Scale an endpoint to zero instances" in the SageMaker developer guide.
    """
    policy = autoscaling.CfnScalingPolicy(
        scope,
        f"{scaled.label}FromZero",
        policy_name=f"{scaled.name}-from-zero",
        policy_type="StepScaling",
        scaling_target_id=target.ref,
        step_scaling_policy_configuration=autoscaling.CfnScalingPolicy.StepScalingPolicyConfigurationProperty(
            adjustment_type="ChangeInCapacity",
            metric_aggregation_type="Maximum",
            # About the time an instance takes to start, so that rejections in the meantime do not add a copy per
            # minute.
            cooldown=300,
            step_adjustments=[
                autoscaling.CfnScalingPolicy.StepAdjustmentProperty(metric_interval_lower_bound=0, scaling_adjustment=1)
            ],
        ),
    )
    cloudwatch.CfnAlarm(
        scope,
        f"{scaled.label}FromZeroAlarm",
        alarm_name=f"{scaled.name}-from-zero",
        alarm_description=f"{scaled.label} rejected a request because no {scaled.unit} was running",
        namespace="AWS/SageMaker",
        metric_name="NoCapacityInvocationFailures",
        dimensions=_dimensions(scaled),
        statistic="Sum",
        period=60,
        threshold=1,
        evaluation_periods=1,
        datapoints_to_alarm=1,
        comparison_operator="GreaterThanOrEqualToThreshold",
        treat_missing_data="notBreaching",
        alarm_actions=[policy.ref],
    )


def _dimensions(scaled: Scaled) -> list[cloudwatch.CfnAlarm.DimensionProperty]:
    return [cloudwatch.CfnAlarm.DimensionProperty(name=name, value=value) for name, value in scaled.dimensions.items()]
