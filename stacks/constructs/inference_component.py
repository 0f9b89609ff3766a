"""An endpoint without a model on its variant, and the inference component that places copies of one."""

from aws_cdk import aws_iam as iam
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from sizing.instances import instance
from stacks.constructs.endpoint_alarms import endpoint_alarm, serving_alarms
from stacks.constructs.endpoint_scaling import add_scaling, scaled_component
from stacks.constructs.realtime_endpoint import (
    VariantProps,
    capture_prefix,
    containers_log_group,
    data_capture_config,
    volume_key,
)
from stacks.naming import component_name
from stacks.resources import SharedResources
from stacks.settings.endpoint import SageMakerEndpoint
from stacks.settings.guardrails import Guardrails
from stacks.settings.hosting import DataCapture, InferenceComponent
from stacks.settings.scaling import most


class ComponentEndpoint(Construct):
    """Endpoint configuration without a model, endpoint, and its one inference component with scaling and alarms.

    SageMaker runs the number of instances that the copies need. Guardrails are those of the component, whose updates
    roll out in batches; an endpoint of components has no blue/green update of its own.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        endpoint_name: str,
        variant: VariantProps,
        component: InferenceComponent,
        role: iam.IRole,
        settings: SageMakerEndpoint,
        resources: SharedResources,
    ) -> None:
        super().__init__(scope, construct_id)
        self._resources = resources
        name = component_name(endpoint_name)
        self.alarms = serving_alarms(
            self,
            endpoint_name=endpoint_name,
            variant=variant.name,
            dimensions={"InferenceComponentName": name},
            alarms=settings.alarms,
            multi_model=False,
        )
        endpoint_alarm(self, endpoint_name=endpoint_name, alarms=self.alarms, alerts=resources.alerts)
        config = self._build_config(endpoint_name, variant, component, role, settings.captures)
        log_groups = (
            containers_log_group(self, "Logs", f"Endpoints/{endpoint_name}", resources.key),
            containers_log_group(self, "ComponentLogs", f"InferenceComponents/{name}", resources.key),
        )
        self.endpoint = sagemaker.CfnEndpoint(
            self, "Endpoint", endpoint_name=endpoint_name, endpoint_config_name=config.attr_endpoint_config_name
        )
        self.component = sagemaker.CfnInferenceComponent(
            self,
            "Component",
            inference_component_name=name,
            endpoint_name=self.endpoint.attr_endpoint_name,
            variant_name=variant.name,
            specification=sagemaker.CfnInferenceComponent.InferenceComponentSpecificationProperty(
                model_name=variant.model.attr_model_name,
                compute_resource_requirements=sagemaker.CfnInferenceComponent.InferenceComponentComputeResourceRequirementsProperty(
                    number_of_cpu_cores_required=component.cpu_cores,
                    min_memory_required_in_mb=component.memory_mib,
                    number_of_accelerator_devices_required=component.accelerators,
                ),
                startup_parameters=sagemaker.CfnInferenceComponent.InferenceComponentStartupParametersProperty(
                    model_data_download_timeout_in_seconds=600, container_startup_health_check_timeout_in_seconds=300
                ),
            ),
            runtime_config=sagemaker.CfnInferenceComponent.InferenceComponentRuntimeConfigProperty(
                copy_count=component.copies
            ),
            deployment_config=self._build_guardrails(
                settings.guardrails, max(most(component.copies, settings.scaling), 1)
            ),
        )
        for log_group in log_groups:
            self.endpoint.node.add_dependency(log_group)
        if settings.scaling is not None:
            add_scaling(self, scaled_component(name, variant.name), settings.scaling, after=self.component)

    def _build_config(
        self,
        endpoint_name: str,
        variant: VariantProps,
        component: InferenceComponent,
        role: iam.IRole,
        data_capture: DataCapture | None,
    ) -> sagemaker.CfnEndpointConfig:
        vpc = self._resources.vpc
        return sagemaker.CfnEndpointConfig(
            self,
            "Config",
            # Without a model on the variant, the configuration itself needs role, isolation and VPC.
            execution_role_arn=role.role_arn,
            enable_network_isolation=True,
            vpc_config=None
            if vpc is None
            else sagemaker.CfnEndpointConfig.VpcConfigProperty(
                subnets=list(vpc.subnet_ids), security_group_ids=list(vpc.security_group_ids)
            ),
            production_variants=[
                sagemaker.CfnEndpointConfig.ProductionVariantProperty(
                    variant_name=variant.name,
                    instance_type=variant.instance_type,
                    initial_instance_count=variant.instance_count,
                    initial_variant_weight=variant.weight,
                    inference_ami_version=instance(variant.instance_type).family.inference_ami,
                    managed_instance_scaling=sagemaker.CfnEndpointConfig.ManagedInstanceScalingProperty(
                        status="ENABLED",
                        min_instance_count=component.min_instances,
                        max_instance_count=component.max_instances,
                    ),
                    routing_config=sagemaker.CfnEndpointConfig.RoutingConfigProperty(
                        routing_strategy="LEAST_OUTSTANDING_REQUESTS"
                    ),
                )
            ],
            kms_key_id=volume_key([variant.instance_type], self._resources.key),
            data_capture_config=data_capture_config(data_capture, self._resources, capture_prefix(endpoint_name)),
        )

    def _build_guardrails(
        self, guardrails: Guardrails | None, copies: int
    ) -> sagemaker.CfnInferenceComponent.InferenceComponentDeploymentConfigProperty | None:
        if guardrails is None:
            return None
        batch = guardrails.size_of_copies
        return sagemaker.CfnInferenceComponent.InferenceComponentDeploymentConfigProperty(
            auto_rollback_configuration=sagemaker.CfnInferenceComponent.AutoRollbackConfigurationProperty(
                alarms=[sagemaker.CfnInferenceComponent.AlarmProperty(alarm_name=a.alarm_name) for a in self.alarms]
            ),
            rolling_update_policy=sagemaker.CfnInferenceComponent.InferenceComponentRollingUpdatePolicyProperty(
                maximum_batch_size=sagemaker.CfnInferenceComponent.InferenceComponentCapacitySizeProperty(
                    type="CAPACITY_PERCENT" if batch.percent else "COPY_COUNT", value=batch.value
                ),
                wait_interval_in_seconds=guardrails.bake_seconds,
                maximum_execution_timeout_in_seconds=guardrails.timeout_of_copies(copies),
            ),
        )
