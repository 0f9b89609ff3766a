"""The stack of the kind `tabular`: multi-model endpoints that serve every model under one key prefix."""

from containers.tabular.features import FEATURES, archive_name
from dashboards.body import Row
from stacks.constructs.endpoint_alarms import alarm_names
from stacks.constructs.execution_role import ServedEndpoint, execution_role
from stacks.constructs.hosted_model import ModelProps, hosted_model
from stacks.constructs.images import ServedImage, builtin_xgboost_image, container_image
from stacks.constructs.realtime_endpoint import RealtimeEndpoint, VariantProps
from stacks.constructs.served_configuration import check_configuration
from stacks.naming import camel
from stacks.settings.hosting import ONLY_VARIANT
from stacks.settings.tabular import Tabular
from stacks.workloads.base import WorkloadStack, invoke_command


class TabularStack(WorkloadStack[Tabular]):
    """Builds a model per group of the table and serves them all from one Model in MultiModel mode."""

    def serve(self) -> list[Row]:
        """Add the image, the build, one model and its endpoints."""
        image = self._image()
        built = self.build("Artifact", "by_state", self.settings.recipe.model_dump_json())
        models = built.key("models/")
        role = execution_role(
            self,
            "Role",
            endpoints=[
                ServedEndpoint(
                    name=self.endpoint_name(key),
                    alarm_names=alarm_names(self.endpoint_name(key), [ONLY_VARIANT], multi_model=True),
                )
                for key in self.settings.endpoints
            ],
            artifacts=self.workload,
            multi_model=True,
            image_repository_arn=image.repository_arn,
            resources=self.resources,
        )
        props = ModelProps(image_uri=image.uri, key=models, environment=self._environment(), multi_model=True)
        model = hosted_model(self, "Model", props=props, role=role, resources=self.resources)
        for key, endpoint in self.settings.endpoints.items():
            name = self.endpoint_name(key)
            variant = VariantProps(
                name=ONLY_VARIANT,
                model=model,
                instance_type=endpoint.instance_type,
                instance_count=endpoint.instance_count,
            )
            served = RealtimeEndpoint(
                self,
                camel(key),
                endpoint_name=name,
                variants=[variant],
                settings=endpoint,
                resources=self.resources,
            )
            check_configuration(served, served.endpoint, name, self.resources.configuration_check)
            self.output(f"{camel(key)}EndpointName", name)
            row = ",".join(["0"] * len(FEATURES))
            self.output(f"{camel(key)}Invoke", invoke_command(name, "text/csv", row, target_model=archive_name("CA")))
        # An archive uploaded under this URL is served at its first request: adding a group is one upload.
        self.output("Models", f"s3://{self.resources.artifacts.bucket_name}/{models}")
        return []

    def _image(self) -> ServedImage:
        if self.settings.container == "builtin":
            return builtin_xgboost_image(self, "BuiltinImage")
        return container_image(self, "Image", deployment=self.deployment, folder="tabular")

    def _environment(self) -> dict[str, str]:
        if not self.settings.memory_per_model_mib:
            return {}
        return {"MODEL_MEMORY_RESERVATION_BYTES": str(self.settings.memory_per_model_mib * 2**20)}
