"""The stack of the kind `neuron_encoder`: SageMaker endpoints, and fleets on EC2, from the same archives and image."""

from aws_cdk import Aws

from dashboards import neuron_fleet
from dashboards.body import Row
from sizing.prices import usd_per_hour
from stacks.constructs.hosted_model import ModelProps
from stacks.constructs.images import ServedImage, container_image
from stacks.constructs.neuron_fleet import FleetModel, LoadBalancedFleet
from stacks.constructs.neuron_host import METRICS_NAMESPACE
from stacks.constructs.served_endpoint import EndpointProps, VariantModel, serve
from stacks.naming import camel
from stacks.settings.neuron_encoder import NeuronEncoder, NeuronEndpoint, NeuronFleet
from stacks.settings.supply_chain import PYTHON_BASE
from stacks.workloads.base import WorkloadStack

_WITHOUT_SDK = {"DEVICE": "cpu", "BASE_IMAGE": PYTHON_BASE}
"""Build arguments of the image for virtual cores; the Dockerfile's own are for real ones."""


class NeuronEncoderStack(WorkloadStack[NeuronEncoder]):
    """Trace the models of the settings, and serve them with either hosting."""

    def serve(self) -> list[Row]:
        """Add images, builds, endpoints and fleets."""
        self._images: dict[bool, ServedImage] = {}
        self._built = {
            name: self.build(f"Artifact{camel(name)}", name, recipe.model_dump_json())
            for name, recipe in self.settings.models.items()
        }
        for name, recipe in self.settings.models.items():
            self.warn(self._built[name], name, recipe.warnings)
            self.output_artifacts(self._built[name], f"{camel(name)}Artifacts")
        fleets = []
        for key, endpoint in self.settings.endpoints.items():
            if isinstance(endpoint, NeuronEndpoint):
                self._serve(key, endpoint)
            else:
                fleets.append(self._run(key, endpoint))
        return [row for fleet in fleets for row in neuron_fleet.rows(fleet, Aws.REGION)]

    def _serve(self, key: str, endpoint: NeuronEndpoint) -> None:
        image = self._image(virtual=endpoint.device != "neuron")
        environment = {**endpoint.container_environment(), **self._hashes(endpoint.model)}
        serve(
            self,
            props=EndpointProps(
                key=key,
                name=self.endpoint_name(key),
                artifacts=self.workload,
                settings=endpoint,
                image=image,
            ),
            models={"": ModelProps(image_uri=image.uri, key=self._model_key(endpoint.model), environment=environment)},
            variants=[VariantModel.only(endpoint)],
            resources=self.resources,
        )

    def _run(self, key: str, settings: NeuronFleet) -> neuron_fleet.Fleet:
        name = self.endpoint_name(key)
        placement = settings.placement(settings.instance_type, self.settings.models[settings.model])
        fleet = LoadBalancedFleet(
            self,
            camel(key),
            name=name,
            settings=settings,
            placement=placement,
            model=FleetModel(
                image=self._image(virtual=False),
                artifacts=self.workload,
                key=self._model_key(settings.model),
                hashes=self._hashes(settings.model),
            ),
            resources=self.resources,
        )
        scheme = "https" if settings.certificate_arn else "http"
        self.output(f"{camel(key)}Url", f"{scheme}://{fleet.load_balancer.load_balancer_dns_name}")
        self.output(f"{camel(key)}GroupName", fleet.group.auto_scaling_group_name)
        return neuron_fleet.Fleet(
            name=name,
            namespace=METRICS_NAMESPACE,
            cores=[core for process in placement.processes for core in process.cores],
            target=settings.tracked.target_core_utilization if settings.tracked else None,
            group=fleet.group.auto_scaling_group_name,
            load_balancer=fleet.load_balancer.load_balancer_full_name,
            target_group=fleet.target_group.target_group_full_name,
            usd_per_hour=usd_per_hour(self.deployment.region, settings.instance_type),
        )

    def _model_key(self, model: str) -> str:
        return self._built[model].model_key(self.settings.models[model].target)

    def _hashes(self, model: str) -> dict[str, str]:
        return self._built[model].hashes(self.settings.models[model].target)

    def _image(self, *, virtual: bool) -> ServedImage:
        """Return the image for real or for virtual cores, built once for all endpoints."""
        if virtual not in self._images:
            self._images[virtual] = container_image(
                self,
                "VirtualImage" if virtual else "NeuronImage",
                deployment=self.deployment,
                folder="neuron_encoder",
                build_args=_WITHOUT_SDK if virtual else {"DEVICE": "neuron"},
                on_neuron=not virtual,
            )
        return self._images[virtual]
