"""A model's role, the model itself, and the endpoint that serves it: the sequence that most kinds need."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aws_cdk import CfnOutput, Stack
from aws_cdk import aws_iam as iam
from constructs import Construct

from stacks.constructs.endpoint_alarms import alarm_names
from stacks.constructs.execution_role import ServedEndpoint, execution_role
from stacks.constructs.hosted_model import ModelProps, hosted_model
from stacks.constructs.images import ServedImage
from stacks.constructs.inference_component import ComponentEndpoint
from stacks.constructs.realtime_endpoint import RealtimeEndpoint, VariantProps, capture_prefix
from stacks.constructs.served_configuration import check_configuration
from stacks.naming import camel, component_name
from stacks.resources import SharedResources
from stacks.settings.endpoint import SageMakerEndpoint, SingleVariantEndpoint
from stacks.settings.hosting import ONLY_VARIANT, InferenceComponent


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointProps:
    """An endpoint and the image that serves it.

    key: in the deployment file, which constructs and outputs are named after. artifacts: prefix of the keys of the
    workload's archives. also_served: further endpoints that the
    role may serve. component: hosts the model as an inference component.
    """

    key: str
    name: str
    artifacts: str
    settings: SageMakerEndpoint
    image: ServedImage
    also_served: Sequence[ServedEndpoint] = ()
    component: InferenceComponent | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantModel:
    """A variant, and which of the models it serves."""

    name: str
    model: str
    instance_type: str
    instance_count: int
    weight: float = 1.0
    shadow: bool = False

    @classmethod
    def only(cls, endpoint: SingleVariantEndpoint) -> "VariantModel":
        """Return the variant of an endpoint that has one variant and one model."""
        return cls(
            name=ONLY_VARIANT, model="", instance_type=endpoint.instance_type, instance_count=endpoint.instance_count
        )


def serve(
    stack: Stack,
    *,
    props: EndpointProps,
    models: Mapping[str, ModelProps],
    variants: Sequence[VariantModel],
    resources: SharedResources,
) -> Construct:
    """Add role, models, endpoint and outputs to a stack; return the endpoint's construct.

    models: by what tells them apart in their construct ids; one model alone may be "".
    """
    key, name, settings = camel(props.key), props.name, props.settings
    role = execution_role(
        stack,
        f"{key}Role",
        endpoints=[
            ServedEndpoint(
                name=name,
                alarm_names=alarm_names(name, list(settings.variant_types), multi_model=False),
                capture_prefix=capture_prefix(name) if settings.captures else None,
                component=component_name(name) if props.component else None,
            ),
            *props.also_served,
        ],
        artifacts=props.artifacts,
        image_repository_arn=props.image.repository_arn,
        resources=resources,
    )
    hosted = {
        model: hosted_model(stack, f"{key}{model.capitalize()}Model", props=model_props, role=role, resources=resources)
        for model, model_props in models.items()
    }
    made = [
        VariantProps(
            name=each.name,
            model=hosted[each.model],
            instance_type=each.instance_type,
            instance_count=each.instance_count,
            weight=each.weight,
            shadow=each.shadow,
        )
        for each in variants
    ]
    endpoint = _endpoint(stack, props, made, role, resources)
    check_configuration(endpoint, endpoint.endpoint, name, resources.configuration_check)
    CfnOutput(stack, f"{key}EndpointName", value=name)
    return endpoint


def _endpoint(
    stack: Stack, props: EndpointProps, variants: Sequence[VariantProps], role: iam.IRole, resources: SharedResources
) -> RealtimeEndpoint | ComponentEndpoint:
    if props.component is None:
        return RealtimeEndpoint(
            stack,
            camel(props.key),
            endpoint_name=props.name,
            variants=variants,
            settings=props.settings,
            resources=resources,
        )
    (variant,) = variants
    CfnOutput(stack, f"{camel(props.key)}InferenceComponentName", value=component_name(props.name))
    return ComponentEndpoint(
        stack,
        camel(props.key),
        endpoint_name=props.name,
        variant=variant,
        component=props.component,
        role=role,
        settings=props.settings,
        resources=resources,
    )
