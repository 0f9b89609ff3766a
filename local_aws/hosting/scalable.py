"""Resources that Application Auto Scaling can resize: a variant's instances, and an inference component's copies."""

import re
from dataclasses import dataclass

from local_aws.hosting.control import ControlPlane
from local_aws.hosting.errors import ApiError
from local_aws.hosting.fleet import VariantFleet
from local_aws.hosting.metrics import Subject
from sizing.autoscaling import CONCURRENCY, INVOCATIONS, MetricKind

_VARIANT = re.compile(r"^endpoint/(?P<endpoint>[^/]+)/variant/(?P<variant>[^/]+)$")
_COMPONENT = re.compile(r"^inference-component/(?P<component>[^/]+)$")


_METRICS = {
    "sagemaker:variant:DesiredInstanceCount": {
        "SageMakerVariantInvocationsPerInstance": INVOCATIONS,
        "SageMakerVariantConcurrentRequestsPerModelHighResolution": CONCURRENCY,
    },
    "sagemaker:inference-component:DesiredCopyCount": {
        "SageMakerInferenceComponentInvocationsPerCopy": INVOCATIONS,
        "SageMakerInferenceComponentConcurrentRequestsPerCopyHighResolution": CONCURRENCY,
    },
}
DIMENSIONS = tuple(_METRICS)


@dataclass(frozen=True, slots=True)
class Scalable:
    """Resource that a ResourceId names.

    least: smallest valid count. noun: unit of the count in scaling activities.
    """

    dimension: str
    subject: Subject
    least: int
    noun: str

    @classmethod
    def parse(cls, resource_id: str) -> "Scalable":
        """Parse a ResourceId; raise ApiError unless it names a variant or an inference component."""
        if match := _VARIANT.match(resource_id):
            return cls(DIMENSIONS[0], (match["endpoint"], match["variant"]), 1, "instance")
        if match := _COMPONENT.match(resource_id):
            return cls(DIMENSIONS[1], (match["component"],), 0, "copy")
        raise ApiError(
            "ValidationException",
            f"ResourceId is {resource_id!r}: it must be endpoint/NAME/variant/NAME or inference-component/NAME",
        )

    @property
    def metrics(self) -> dict[str, MetricKind]:
        """Predefined metrics that target tracking may follow, by name."""
        return _METRICS[self.dimension]

    def fleet(self, control: ControlPlane) -> VariantFleet | None:
        """Return the replicas, or None if there is nothing to resize yet."""
        if len(self.subject) == 1:
            return control.components.copies(self.subject[0])
        endpoint, variant = self.subject
        fleet = control.fleets.get(endpoint)
        return fleet.variants.get(variant) if fleet is not None else None

    def resize(self, control: ControlPlane, count: int) -> None:
        """Request a count; raise ApiError, for example during an update."""
        if len(self.subject) == 1:
            control.handle(
                "UpdateInferenceComponentRuntimeConfig",
                {"InferenceComponentName": self.subject[0], "DesiredRuntimeConfig": {"CopyCount": count}},
            )
            return
        endpoint, variant = self.subject
        control.handle(
            "UpdateEndpointWeightsAndCapacities",
            {
                "EndpointName": endpoint,
                "DesiredWeightsAndCapacities": [{"VariantName": variant, "DesiredInstanceCount": count}],
            },
        )
