"""Instances with NeuronCores behind an internal load balancer, scaled by core utilization."""

from collections.abc import Mapping
from dataclasses import dataclass

import jsii
from aws_cdk import Aws, CfnResource, Duration, Fn, IStableStringProducer, Lazy, Stack, Tags
from aws_cdk import aws_autoscaling as autoscaling
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_elasticloadbalancingv2 as elb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sns as sns
from constructs import Construct

from containers.neuron_encoder.placement import Placement
from containers.serving.contract import ARCHIVE_HASH_VARIABLE, MANIFEST_HASH_VARIABLE
from stacks.checks.nag_acknowledgements import acknowledge, acknowledge_wildcards
from stacks.constructs.endpoint_alarms import RUNBOOK, endpoint_alarm
from stacks.constructs.images import REGISTRY_TOKEN, ServedImage
from stacks.constructs.isolated_network import CONTAINER_SERVICES, IMAGE_LAYERS, IsolatedNetwork, ObjectAccess
from stacks.constructs.log_group import log_group
from stacks.constructs.neuron_host import FRONT_PORT, METRICS_NAMESPACE, HostProps, start_script
from stacks.constructs.statements import allow
from stacks.resources import SharedResources
from stacks.settings.neuron_encoder import NeuronFleet

_BASE_IMAGE = "/aws/service/neuron/dlami/base/amazon-linux-2023/latest/image_id"
"""SSM parameter of AWS's Neuron base image: the driver, its tools and Docker's runtime hooks, no framework.

Source: "Neuron DLAMI User Guide" of the AWS Neuron documentation, SSM parameters.
"""
_ALSO_CALLED = {
    "CloudFormation": ec2.InterfaceVpcEndpointAwsService.CLOUDFORMATION,
    "Ssm": ec2.InterfaceVpcEndpointAwsService.SSM,
    "SsmMessages": ec2.InterfaceVpcEndpointAwsService.SSM_MESSAGES,
}
_GRACE = Duration.minutes(15)
"""Time from an instance's start until its processes have loaded their traces."""


@jsii.implements(ec2.IMachineImage)
class _NamedImage:
    """A machine image by its ID, in any region."""

    def __init__(self, image_id: str) -> None:
        self._image_id = image_id

    def get_image(self, scope: Construct) -> ec2.MachineImageConfig:
        """Return the image configuration for the CDK."""
        del scope
        return ec2.MachineImageConfig(
            image_id=self._image_id, os_type=ec2.OperatingSystemType.LINUX, user_data=ec2.UserData.for_linux()
        )


@jsii.implements(IStableStringProducer)
class _LogicalId:
    """The logical ID of a fleet's group, whose instances signal it, and whose template contains their script."""

    def __init__(self, fleet: "LoadBalancedFleet") -> None:
        self._fleet = fleet

    def produce(self) -> str:
        """Return it once the group is there."""
        resource = self._fleet.group.node.default_child
        assert isinstance(resource, CfnResource)
        logical_id: str = Stack.of(resource).resolve(resource.logical_id)
        return logical_id


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetModel:
    """What a fleet serves: an image, the S3 key of an archive, and hashes that the archive must match.

    artifacts: prefix of the keys of the workload's archives. Instances read all of it, since those of the last
    deployment start from its archive during an update.
    """

    image: ServedImage
    artifacts: str
    key: str
    hashes: Mapping[str, str]


class LoadBalancedFleet(Construct):
    """An Auto Scaling group over two zones; an instance runs one container for each process of the placement."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        name: str,
        settings: NeuronFleet,
        placement: Placement,
        model: FleetModel,
        resources: SharedResources,
    ) -> None:
        super().__init__(scope, construct_id)
        artifacts, key = resources.artifacts, resources.key
        self._name, self._settings = name, settings
        self._network = IsolatedNetwork(
            self,
            "Network",
            cidr=settings.vpc_cidr,
            availability_zones=settings.availability_zones,
            services={**CONTAINER_SERVICES, **_ALSO_CALLED},
            objects=ObjectAccess(
                readable=[
                    artifacts.arn_for_objects("*"),
                    IMAGE_LAYERS,
                    # The repositories of Amazon Linux 2023.
                    f"arn:{Aws.PARTITION}:s3:::al2023-repos-{Aws.REGION}-de612dc2/*",
                ],
            ),
            clients="the instances",
            key=key,
        )
        # An instance may not create log groups.
        self._serving_logs, self._metrics_logs = (log_group(self, name, key=key) for name in ("Logs", "MetricsLogs"))
        script = start_script(
            HostProps(
                endpoint=name,
                image=model.image.uri,
                registry=Fn.select(0, Fn.split("/", model.image.uri)),
                model_url=Fn.join("", ["s3://", artifacts.bucket_name, "/", model.key]),
                region=Aws.REGION,
                serving_log_group=self._serving_logs.log_group_name,
                metrics_log_group=self._metrics_logs.log_group_name,
                archive_sha256=model.hashes[ARCHIVE_HASH_VARIABLE],
                environment={**settings.environment(), MANIFEST_HASH_VARIABLE: model.hashes[MANIFEST_HASH_VARIABLE]},
                placement=placement,
                stack=Aws.STACK_NAME,
                group=Lazy.string(_LogicalId(self)),
                start_seconds=int(_GRACE.to_seconds()),
            )
        )
        self.role = self._build_role(model, artifacts, key)
        self.group = self._build_group(script)
        self.load_balancer, self.target_group = self._build_load_balancer()
        self._log_requests(resources.access_logs)
        if settings.tracked is not None:
            self._scale(settings.tracked.target_core_utilization, settings.tracked.warmup_seconds)
        self._alarm(resources.alerts)

    def _build_role(self, model: FleetModel, artifacts: s3.IBucket, key: kms.IKey) -> iam.Role:
        archives = artifacts.arn_for_objects(f"{model.artifacts}/*")
        log_streams = [group.log_group_arn for group in (self._serving_logs, self._metrics_logs)]
        role = iam.Role(
            self,
            "Role",
            description=f"Instances of {self._name}: their image and archive, their logs, and sessions without SSH",
            assumed_by=iam.ServicePrincipal("ec2.amazonaws.com"),
            inline_policies={
                "Serve": iam.PolicyDocument(
                    statements=[
                        allow(["s3:GetObject"], [archives]),
                        allow(["kms:Decrypt"], [key.key_arn]),
                        allow(
                            ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
                            [model.image.repository_arn],
                        ),
                        allow(["ecr:GetAuthorizationToken"], ["*"]),
                        allow(["cloudformation:SignalResource"], [Aws.STACK_ID]),
                        allow(["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"], log_streams),
                        # What the SSM agent does for sessions; none of it has a resource in IAM.
                        allow(
                            [
                                "ssm:UpdateInstanceInformation",
                                "ssmmessages:CreateControlChannel",
                                "ssmmessages:CreateDataChannel",
                                "ssmmessages:OpenControlChannel",
                                "ssmmessages:OpenDataChannel",
                            ],
                            ["*"],
                        ),
                    ]
                )
            },
        )
        acknowledge_wildcards(
            role, [archives], "the keys of the workload's archives have the hash of their inputs, which changes"
        )
        acknowledge_wildcards(
            role,
            ["*"],
            f"{REGISTRY_TOKEN}; the channels of the SSM agent have no resource in IAM, and serve sessions without SSH",
        )
        return role

    def _build_group(self, script: str) -> autoscaling.AutoScalingGroup:
        settings, vpc = self._settings, self._network.vpc
        security_group = ec2.SecurityGroup(
            self,
            "Instances",
            vpc=vpc,
            description="Instances: requests from the load balancer only",
            allow_all_outbound=False,
        )
        self._network.admit(security_group)
        template = ec2.LaunchTemplate(
            self,
            "Template",
            instance_type=ec2.InstanceType(settings.instance_type),
            machine_image=(
                ec2.MachineImage.from_ssm_parameter(_BASE_IMAGE)
                if settings.image_id is None
                else _NamedImage(settings.image_id)
            ),
            user_data=ec2.UserData.custom(script),
            role=self.role,
            security_group=security_group,
            associate_public_ip_address=False,
            require_imdsv2=True,
            # A container is one hop further away: it gets no credentials of the instance.
            http_put_response_hop_limit=1,
            http_endpoint=True,
            detailed_monitoring=True,
            block_devices=[
                ec2.BlockDevice(
                    device_name="/dev/xvda",
                    volume=ec2.BlockDeviceVolume.ebs(
                        settings.volume_gib, volume_type=ec2.EbsDeviceVolumeType.GP3, encrypted=True
                    ),
                )
            ],
        )
        group = autoscaling.AutoScalingGroup(
            self,
            "Group",
            vpc=vpc,
            vpc_subnets=ec2.SubnetSelection(subnet_type=ec2.SubnetType.PRIVATE_ISOLATED),
            launch_template=template,
            min_capacity=settings.min_instances,
            max_capacity=settings.max_instances,
            # Without it, an update keeps the count that scaling has reached.
            desired_capacity=settings.desired_instances,
            group_metrics=[autoscaling.GroupMetrics.all()],
            health_checks=autoscaling.HealthChecks.with_additional_checks(
                additional_types=[autoscaling.AdditionalHealthCheckType.ELB], grace_period=_GRACE
            ),
            # The instances signal once their processes respond. A deployment whose instances do not is rolled back.
            signals=autoscaling.Signals.wait_for_all(timeout=_GRACE),
            update_policy=autoscaling.UpdatePolicy.rolling_update(
                max_batch_size=1,
                min_instances_in_service=min(settings.min_instances, settings.max_instances - 1),
                pause_time=_GRACE,
                suspend_processes=[
                    autoscaling.ScalingProcess.ALARM_NOTIFICATION,
                    autoscaling.ScalingProcess.AZ_REBALANCE,
                    autoscaling.ScalingProcess.SCHEDULED_ACTIONS,
                ],
            ),
        )
        Tags.of(group).add("Name", self._name)
        acknowledge(
            group,
            "AS3",
            "launches and terminations are normal scaling, recorded in the group's activity history; instances that do "
            "not respond have an alarm on the alert topic",
        )
        # An instance that starts before the VPC endpoints exist cannot install packages, and does not retry.
        group.node.add_dependency(self._network)
        return group

    def _build_load_balancer(self) -> tuple[elb.ApplicationLoadBalancer, elb.ApplicationTargetGroup]:
        settings, vpc = self._settings, self._network.vpc
        security_group = ec2.SecurityGroup(
            self,
            "Balancer",
            vpc=vpc,
            description="Load balancer: requests from this network only",
            allow_all_outbound=False,
        )
        balancer = elb.ApplicationLoadBalancer(
            self,
            "LoadBalancer",
            vpc=vpc,
            internet_facing=False,
            vpc_subnets=ec2.SubnetSelection(subnet_type=ec2.SubnetType.PRIVATE_ISOLATED),
            security_group=security_group,
            drop_invalid_header_fields=True,
            deletion_protection=False,
        )
        target_group = elb.ApplicationTargetGroup(
            self,
            "Targets",
            vpc=vpc,
            port=FRONT_PORT,
            protocol=elb.ApplicationProtocol.HTTP,
            targets=[self.group],
            deregistration_delay=Duration.seconds(30),
            load_balancing_algorithm_type=elb.TargetGroupLoadBalancingAlgorithmType.LEAST_OUTSTANDING_REQUESTS,
            health_check=elb.HealthCheck(
                path="/ping",
                interval=Duration.seconds(10),
                timeout=Duration.seconds(5),
                healthy_threshold_count=2,
                unhealthy_threshold_count=3,
                healthy_http_codes="200",
            ),
        )
        certificate = settings.certificate_arn
        port = 443 if certificate else 80
        listener = balancer.add_listener(
            "Listener",
            port=port,
            protocol=elb.ApplicationProtocol.HTTPS if certificate else elb.ApplicationProtocol.HTTP,
            certificates=[elb.ListenerCertificate.from_arn(certificate)] if certificate else None,
            ssl_policy=elb.SslPolicy.RECOMMENDED_TLS if certificate else None,
            default_target_groups=[target_group],
            open=False,
        )
        listener.connections.allow_default_port_from(ec2.Peer.ipv4(settings.vpc_cidr), "Requests from this network")
        self.group.node.add_dependency(listener)
        return balancer, target_group

    def _log_requests(self, access_logs: s3.IBucket) -> None:
        """Log every request to the access-log bucket: client, time, path and status, without bodies.

        Source: "Enable access logs for your Application Load Balancer" in the Elastic Load Balancing user guide.
        """
        prefix = f"load-balancers/{self._name}"
        written = iam.PolicyStatement(
            principals=[iam.ServicePrincipal("logdelivery.elasticloadbalancing.amazonaws.com")],
            actions=["s3:PutObject"],
            resources=[access_logs.arn_for_objects(f"{prefix}/AWSLogs/{Aws.ACCOUNT_ID}/*")],
        )
        access_logs.add_to_resource_policy(written)
        for name, value in {"enabled": "true", "bucket": access_logs.bucket_name, "prefix": prefix}.items():
            self.load_balancer.set_attribute(f"access_logs.s3.{name}", value)

    def _scale(self, target: float, warmup_seconds: int) -> None:
        autoscaling.CfnScalingPolicy(
            self,
            "Scaling",
            auto_scaling_group_name=self.group.auto_scaling_group_name,
            policy_type="TargetTrackingScaling",
            estimated_instance_warmup=warmup_seconds,
            target_tracking_configuration=autoscaling.CfnScalingPolicy.TargetTrackingConfigurationProperty(
                target_value=target,
                customized_metric_specification=autoscaling.CfnScalingPolicy.CustomizedMetricSpecificationProperty(
                    namespace=METRICS_NAMESPACE,
                    metric_name="CoreUtilization",
                    statistic="Average",
                    unit="Percent",
                    dimensions=[
                        autoscaling.CfnScalingPolicy.MetricDimensionProperty(name="Endpoint", value=self._name)
                    ],
                ),
            ),
        )

    def _alarm(self, alerts: sns.ITopic) -> None:
        minute, limits = Duration.minutes(1), self._settings.alarms
        metrics = self.target_group.metrics
        alarms = {
            "Latency": (
                f"P99 response time is over {limits.p99_model_latency_ms:g} ms",
                "latency",
                metrics.target_response_time(statistic="p99", period=minute),
                limits.p99_model_latency_ms / 1000,
            ),
            "ServerErrors": (
                f"{limits.server_errors} or more 5XX responses in a minute",
                "server-errors",
                metrics.http_code_target(elb.HttpCodeTarget.TARGET_5XX_COUNT, period=minute),
                limits.server_errors,
            ),
            "Unhealthy": (
                "an instance does not respond to /ping",
                "unhealthy",
                metrics.unhealthy_host_count(statistic="Maximum", period=minute),
                1,
            ),
        }
        made = [
            cloudwatch.Alarm(
                self,
                construct_id,
                alarm_description=f"{self._name}: {description}; see {RUNBOOK}#{anchor}",
                metric=metric,
                threshold=threshold,
                evaluation_periods=3,
                datapoints_to_alarm=2,
                comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
                treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
            )
            for construct_id, (description, anchor, metric, threshold) in alarms.items()
        ]
        endpoint_alarm(self, endpoint_name=self._name, alarms=made, alerts=alerts)
