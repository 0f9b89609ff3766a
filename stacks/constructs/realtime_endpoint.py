"""A SageMaker real-time endpoint with its role, scaling and alarms."""

from collections.abc import Sequence
from dataclasses import dataclass

from aws_cdk import Aws, Duration, Fn
from aws_cdk import aws_applicationautoscaling as autoscaling
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_ecr_assets as ecr_assets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sagemaker as sagemaker
from aws_cdk import aws_sns as sns
from constructs import Construct

from stacks.settings import DataCapture, Endpoint, EndpointAlarms, Scaling, Vpc

_VPC_ACTIONS = (
    "ec2:CreateNetworkInterface",
    "ec2:CreateNetworkInterfacePermission",
    "ec2:DeleteNetworkInterface",
    "ec2:DeleteNetworkInterfacePermission",
    "ec2:DescribeDhcpOptions",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSubnets",
    "ec2:DescribeVpcs",
)
"""What SageMaker needs to place containers in a VPC; EC2 has no resource-level permission for most of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantProps:
    """One production variant, and the S3 key of the archive that it serves."""

    name: str
    model_key: str
    instance_type: str
    instance_count: int
    weight: float


class RealtimeEndpoint(Construct):
    """Models, endpoint configuration and endpoint; only the endpoint has a name, so every change replaces the rest."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        endpoint_name: str,
        settings: Endpoint,
        variants: Sequence[VariantProps],
        image: ecr_assets.DockerImageAsset,
        artifacts: s3.IBucket,
        key: kms.IKey,
        alerts: sns.ITopic,
        vpc: Vpc | None,
    ) -> None:
        super().__init__(scope, construct_id)
        self.endpoint_name = endpoint_name
        self.alarms = [
            alarm for variant in variants for alarm in self._build_alarms(variant.name, settings.alarms, alerts)
        ]
        capture_prefix = f"capture/{endpoint_name}"
        role = self._build_role(variants, image, artifacts, key, capture_prefix, bool(settings.data_capture), vpc)
        models = [self._build_model(variant, role, image, artifacts, vpc) for variant in variants]
        config = sagemaker.CfnEndpointConfig(
            self,
            "Config",
            production_variants=[
                sagemaker.CfnEndpointConfig.ProductionVariantProperty(
                    variant_name=variant.name,
                    model_name=model.attr_model_name,
                    instance_type=variant.instance_type,
                    initial_instance_count=variant.instance_count,
                    initial_variant_weight=variant.weight,
                    model_data_download_timeout_in_seconds=600,
                    container_startup_health_check_timeout_in_seconds=300,
                )
                for variant, model in zip(variants, models, strict=True)
            ],
            # Storage of instances with local NVMe is encrypted by the hardware, and SageMaker refuses a key there.
            kms_key_id=None if any(_has_local_nvme(v.instance_type) for v in variants) else key.key_arn,
            data_capture_config=self._build_capture(settings.data_capture, artifacts, key, capture_prefix),
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
        if settings.scaling is not None:
            for variant in variants:
                self._build_scaling(variant.name, settings.scaling)

    def _build_role(
        self,
        variants: Sequence[VariantProps],
        image: ecr_assets.DockerImageAsset,
        artifacts: s3.IBucket,
        key: kms.IKey,
        capture_prefix: str,
        captures: bool,
        vpc: Vpc | None,
    ) -> iam.Role:
        log_group = (
            f"arn:{Aws.PARTITION}:logs:{Aws.REGION}:{Aws.ACCOUNT_ID}:log-group:"
            f"/aws/sagemaker/Endpoints/{self.endpoint_name}"
        )
        statements = [
            iam.PolicyStatement(
                actions=["s3:GetObject"], resources=[artifacts.arn_for_objects(v.model_key) for v in variants]
            ),
            iam.PolicyStatement(
                actions=["kms:Decrypt", *(["kms:GenerateDataKey"] if captures else [])], resources=[key.key_arn]
            ),
            iam.PolicyStatement(
                actions=["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
                resources=[image.repository.repository_arn],
            ),
            iam.PolicyStatement(actions=["ecr:GetAuthorizationToken"], resources=["*"]),
            iam.PolicyStatement(
                actions=["logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"],
                resources=[log_group, f"{log_group}:log-stream:*"],
            ),
            iam.PolicyStatement(
                actions=["cloudwatch:PutMetricData"],
                resources=["*"],
                conditions={"StringEquals": {"cloudwatch:namespace": ["/aws/sagemaker/Endpoints", "AWS/SageMaker"]}},
            ),
            iam.PolicyStatement(
                actions=["cloudwatch:DescribeAlarms"], resources=[alarm.alarm_arn for alarm in self.alarms]
            ),
        ]
        if captures:
            statements.append(
                iam.PolicyStatement(
                    actions=["s3:PutObject"], resources=[artifacts.arn_for_objects(f"{capture_prefix}/*")]
                )
            )
        if vpc is not None:
            statements.append(
                iam.PolicyStatement(
                    actions=list(_VPC_ACTIONS),
                    resources=["*"],
                )
            )
        # An inline policy is created with its role, so no model is ever created before its permissions.
        return iam.Role(
            self,
            "ExecutionRole",
            assumed_by=iam.ServicePrincipal("sagemaker.amazonaws.com"),
            inline_policies={"Serve": iam.PolicyDocument(statements=statements)},
        )

    def _build_model(
        self,
        variant: VariantProps,
        role: iam.Role,
        image: ecr_assets.DockerImageAsset,
        artifacts: s3.IBucket,
        vpc: Vpc | None,
    ) -> sagemaker.CfnModel:
        return sagemaker.CfnModel(
            self,
            f"Model{variant.name}",
            execution_role_arn=role.role_arn,
            enable_network_isolation=True,
            primary_container=sagemaker.CfnModel.ContainerDefinitionProperty(
                image=image.image_uri,
                model_data_url=Fn.join("", ["s3://", artifacts.bucket_name, "/", variant.model_key]),
            ),
            vpc_config=None
            if vpc is None
            else sagemaker.CfnModel.VpcConfigProperty(
                subnets=list(vpc.subnet_ids), security_group_ids=list(vpc.security_group_ids)
            ),
        )

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
        def metric(name: str, statistic: str) -> cloudwatch.Metric:
            return cloudwatch.Metric(
                namespace="AWS/SageMaker",
                metric_name=name,
                dimensions_map={"EndpointName": self.endpoint_name, "VariantName": variant},
                statistic=statistic,
                period=Duration.minutes(1),
            )

        made = [
            cloudwatch.Alarm(
                self,
                f"{variant}Latency",
                alarm_description=f"P99 ModelLatency of {variant} is over {alarms.p99_model_latency_ms:g} ms",
                metric=metric("ModelLatency", "p99"),
                threshold=alarms.p99_model_latency_ms * 1000,
                evaluation_periods=3,
                datapoints_to_alarm=2,
                comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
                treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
            ),
            cloudwatch.Alarm(
                self,
                f"{variant}ServerErrors",
                alarm_description=f"{variant} answered {alarms.server_errors} or more requests with 5XX in a minute",
                metric=metric("Invocation5XXErrors", "Sum"),
                threshold=alarms.server_errors,
                evaluation_periods=1,
                comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
                treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
            ),
        ]
        for alarm in made:
            alarm.add_alarm_action(actions.SnsAction(alerts))
        return made

    def _build_scaling(self, variant: str, scaling: Scaling) -> None:
        target = autoscaling.CfnScalableTarget(
            self,
            f"{variant}Target",
            service_namespace="sagemaker",
            scalable_dimension="sagemaker:variant:DesiredInstanceCount",
            resource_id=f"endpoint/{self.endpoint_name}/variant/{variant}",
            min_capacity=scaling.min_capacity,
            max_capacity=scaling.max_capacity,
        )
        target.add_dependency(self.endpoint)
        autoscaling.CfnScalingPolicy(
            self,
            f"{variant}Policy",
            policy_name=f"{self.endpoint_name}-{variant}-invocations",
            policy_type="TargetTrackingScaling",
            scaling_target_id=target.ref,
            target_tracking_scaling_policy_configuration=autoscaling.CfnScalingPolicy.TargetTrackingScalingPolicyConfigurationProperty(
                target_value=scaling.target_invocations_per_instance,
                scale_in_cooldown=scaling.scale_in_cooldown_seconds,
                scale_out_cooldown=scaling.scale_out_cooldown_seconds,
                predefined_metric_specification=autoscaling.CfnScalingPolicy.PredefinedMetricSpecificationProperty(
                    predefined_metric_type="SageMakerVariantInvocationsPerInstance"
                ),
            ),
        )


def _has_local_nvme(instance_type: str) -> bool:
    family = instance_type.split(".")[1]
    return family.startswith(("g4dn", "g5", "g6", "p4d", "p4de", "p5", "inf1", "inf2", "trn1")) or family.endswith("d")
