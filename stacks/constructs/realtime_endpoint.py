"""A SageMaker real-time endpoint with its scaling and alarms."""

from collections.abc import Sequence
from dataclasses import dataclass

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_applicationautoscaling as autoscaling
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sagemaker as sagemaker
from aws_cdk import aws_sns as sns
from constructs import Construct

from stacks.settings import DataCapture, EndpointAlarms, Scaling, StepScaling


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantProps:
    """One production variant and the model that it serves."""

    name: str
    model: sagemaker.CfnModel
    instance_type: str
    instance_count: int
    weight: float = 1.0


def alarm_names(endpoint_name: str, variants: Sequence[str], *, multi_model: bool) -> list[str]:
    """Names of an endpoint's alarms, known before they are made, since its role may describe just these."""
    kinds = ["latency", "server-errors", *(["loading-wait"] if multi_model else [])]
    return [f"{endpoint_name}-{variant}-{kind}" for variant in variants for kind in kinds]


class RealtimeEndpoint(Construct):
    """Endpoint configuration and endpoint; only the endpoint has a name, so every change replaces the rest."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        endpoint_name: str,
        variants: Sequence[VariantProps],
        alarms: EndpointAlarms,
        scaling: Scaling | None,
        data_capture: DataCapture | None,
        multi_model: bool = False,
        artifacts: s3.IBucket,
        key: kms.IKey,
        alerts: sns.ITopic,
    ) -> None:
        super().__init__(scope, construct_id)
        self.endpoint_name = endpoint_name
        self._multi_model = multi_model
        self.alarms = [alarm for variant in variants for alarm in self._build_alarms(variant.name, alarms, alerts)]
        config = sagemaker.CfnEndpointConfig(
            self,
            "Config",
            production_variants=[
                sagemaker.CfnEndpointConfig.ProductionVariantProperty(
                    variant_name=variant.name,
                    model_name=variant.model.attr_model_name,
                    instance_type=variant.instance_type,
                    initial_instance_count=variant.instance_count,
                    initial_variant_weight=variant.weight,
                    model_data_download_timeout_in_seconds=600,
                    container_startup_health_check_timeout_in_seconds=300,
                )
                for variant in variants
            ],
            # Storage of instances with local NVMe is encrypted by the hardware, and SageMaker refuses a key there.
            kms_key_id=None if any(_has_local_nvme(v.instance_type) for v in variants) else key.key_arn,
            data_capture_config=self._build_capture(data_capture, artifacts, key, capture_prefix(endpoint_name)),
        )
        # SageMaker would make it at the first line, without an end to retention, and leave it behind on destroy.
        log_group = logs.LogGroup(
            self,
            "Logs",
            log_group_name=f"/aws/sagemaker/Endpoints/{endpoint_name}",
            retention=logs.RetentionDays.ONE_MONTH,
            removal_policy=RemovalPolicy.DESTROY,
        )
        self.endpoint = sagemaker.CfnEndpoint(
            self,
            "Endpoint",
            endpoint_name=endpoint_name,
            endpoint_config_name=config.attr_endpoint_config_name,
            # Without these an update sets scaled-out variants back to their initial count.
            retain_all_variant_properties=True,
            exclude_retained_variant_properties=[
                sagemaker.CfnEndpoint.VariantPropertyProperty(variant_property_type="DesiredWeight")
            ],
            deployment_config=sagemaker.CfnEndpoint.DeploymentConfigProperty(
                # SageMaker takes ten alarms at the most.
                auto_rollback_configuration=sagemaker.CfnEndpoint.AutoRollbackConfigProperty(
                    alarms=[sagemaker.CfnEndpoint.AlarmProperty(alarm_name=a.alarm_name) for a in self.alarms[:10]]
                ),
                blue_green_update_policy=sagemaker.CfnEndpoint.BlueGreenUpdatePolicyProperty(
                    traffic_routing_configuration=sagemaker.CfnEndpoint.TrafficRoutingConfigProperty(
                        type="ALL_AT_ONCE", wait_interval_in_seconds=120
                    ),
                    termination_wait_in_seconds=0,
                    maximum_execution_timeout_in_seconds=1800,
                ),
            ),
        )
        self.endpoint.node.add_dependency(log_group)
        if scaling is not None:
            for variant in variants:
                self._build_scaling(variant.name, scaling)

    def _build_capture(
        self, capture: DataCapture | None, artifacts: s3.IBucket, key: kms.IKey, prefix: str
    ) -> sagemaker.CfnEndpointConfig.DataCaptureConfigProperty | None:
        if capture is None:
            return None
        return sagemaker.CfnEndpointConfig.DataCaptureConfigProperty(
            enable_capture=True,
            initial_sampling_percentage=capture.sampling_percentage,
            destination_s3_uri=artifacts.s3_url_for_object(prefix),
            kms_key_id=key.key_arn,
            capture_options=[
                sagemaker.CfnEndpointConfig.CaptureOptionProperty(capture_mode=mode) for mode in ("Input", "Output")
            ],
        )

    def _build_alarms(self, variant: str, alarms: EndpointAlarms, alerts: sns.ITopic) -> list[cloudwatch.Alarm]:
        made = [
            self._alarm(
                f"{variant}Latency",
                name=f"{self.endpoint_name}-{variant}-latency",
                description=f"P99 ModelLatency of {variant} is over {alarms.p99_model_latency_ms:g} ms",
                metric=self._metric(variant, "ModelLatency", "p99"),
                threshold=alarms.p99_model_latency_ms * 1000,
            ),
            cloudwatch.Alarm(
                self,
                f"{variant}ServerErrors",
                alarm_name=f"{self.endpoint_name}-{variant}-server-errors",
                alarm_description=f"{variant} answered {alarms.server_errors} or more requests with 5XX in a minute",
                metric=self._metric(variant, "Invocation5XXErrors", "Sum"),
                threshold=alarms.server_errors,
                evaluation_periods=1,
                comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
                treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
            ),
        ]
        if self._multi_model:
            made.append(
                self._alarm(
                    f"{variant}LoadingWait",
                    name=f"{self.endpoint_name}-{variant}-loading-wait",
                    description=f"requests of {variant} wait more than {alarms.model_loading_wait_ms:g} ms for models",
                    metric=self._metric(variant, "ModelLoadingWaitTime", "Average"),
                    threshold=alarms.model_loading_wait_ms * 1000,
                )
            )
        for alarm in made:
            alarm.add_alarm_action(actions.SnsAction(alerts))
        return made

    def _alarm(
        self, construct_id: str, *, name: str, description: str, metric: cloudwatch.Metric, threshold: float
    ) -> cloudwatch.Alarm:
        """Two minutes of three over the threshold: one slow minute wakes nobody."""
        return cloudwatch.Alarm(
            self,
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

    def _metric(self, variant: str, name: str, statistic: str) -> cloudwatch.Metric:
        return cloudwatch.Metric(
            namespace="AWS/SageMaker",
            metric_name=name,
            dimensions_map={"EndpointName": self.endpoint_name, "VariantName": variant},
            statistic=statistic,
            period=Duration.minutes(1),
        )

    def _build_scaling(self, variant: str, scaling: Scaling) -> None:
        target = autoscaling.CfnScalableTarget(
            self,
            f"{variant}Target",
            service_namespace="sagemaker",
            scalable_dimension="sagemaker:variant:DesiredInstanceCount",
            resource_id=f"endpoint/{self.endpoint_name}/variant/{variant}",
            min_capacity=scaling.min_capacity,
            max_capacity=scaling.max_capacity,
            scheduled_actions=[
                autoscaling.CfnScalableTarget.ScheduledActionProperty(
                    scheduled_action_name=f"{self.endpoint_name}-{variant}-{name.replace('_', '-')}",
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
        target.add_dependency(self.endpoint)
        if scaling.target_value is not None:
            autoscaling.CfnScalingPolicy(
                self,
                f"{variant}Policy",
                policy_name=f"{self.endpoint_name}-{variant}",
                policy_type="TargetTrackingScaling",
                scaling_target_id=target.ref,
                target_tracking_scaling_policy_configuration=autoscaling.CfnScalingPolicy.TargetTrackingScalingPolicyConfigurationProperty(
                    target_value=scaling.target_value,
                    scale_in_cooldown=scaling.scale_in_cooldown_seconds,
                    scale_out_cooldown=scaling.scale_out_cooldown_seconds,
                    predefined_metric_specification=autoscaling.CfnScalingPolicy.PredefinedMetricSpecificationProperty(
                        predefined_metric_type=_scaling_metric(scaling)
                    ),
                ),
            )
        if scaling.step is not None:
            self._build_steps(variant, scaling.step, target)

    def _build_steps(self, variant: str, step: StepScaling, target: autoscaling.CfnScalableTarget) -> None:
        uppers = [*(adjustment.over for adjustment in step.steps[1:]), None]
        policy = autoscaling.CfnScalingPolicy(
            self,
            f"{variant}Steps",
            policy_name=f"{self.endpoint_name}-{variant}-steps",
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
            self,
            f"{variant}StepsAlarm",
            alarm_name=f"{self.endpoint_name}-{variant}-steps",
            alarm_description=f"{variant} gets more than {step.threshold_invocations_per_instance:g} invocations "
            "per minute and instance",
            namespace="AWS/SageMaker",
            metric_name="InvocationsPerInstance",
            dimensions=[
                cloudwatch.CfnAlarm.DimensionProperty(name="EndpointName", value=self.endpoint_name),
                cloudwatch.CfnAlarm.DimensionProperty(name="VariantName", value=variant),
            ],
            # SageMaker publishes the metric with a value per request: its sum over a minute is the rate.
            statistic="Sum",
            period=60,
            threshold=step.threshold_invocations_per_instance,
            evaluation_periods=step.evaluation_periods,
            comparison_operator="GreaterThanThreshold",
            treat_missing_data="notBreaching",
            alarm_actions=[policy.ref],
        )


def capture_prefix(endpoint_name: str) -> str:
    """Key prefix, in the artifact bucket, of an endpoint's captured requests and answers."""
    return f"capture/{endpoint_name}"


def _scaling_metric(scaling: Scaling) -> str:
    if scaling.target_invocations_per_instance is not None:
        return "SageMakerVariantInvocationsPerInstance"
    return "SageMakerVariantConcurrentRequestsPerModelHighResolution"


def _has_local_nvme(instance_type: str) -> bool:
    family = instance_type.split(".")[1]
    return family.startswith(("g4dn", "g5", "g6", "p4d", "p4de", "p5", "inf1", "inf2", "trn1")) or family.endswith("d")
