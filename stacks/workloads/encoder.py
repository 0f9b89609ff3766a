"""The stack of the kind `encoder`: FP32 and INT8 variants from one image."""

from dashboards.body import Row
from stacks.constructs.hosted_model import ModelProps
from stacks.constructs.images import container_image
from stacks.constructs.served_endpoint import EndpointProps, VariantModel, serve
from stacks.naming import camel
from stacks.settings.encoder import Encoder
from stacks.workloads.base import WorkloadStack, invoke_command


class EncoderStack(WorkloadStack[Encoder]):
    """Builds the models of the settings and serves them."""

    def serve(self) -> list[Row]:
        """Add images, builds and endpoints."""
        models = self.settings.models
        images = {
            engine: container_image(
                self,
                f"{camel(engine)}Image",
                deployment=self.deployment,
                folder="encoder",
                build_args={"ENGINE": engine},
            )
            for engine in sorted({recipe.engine for recipe in models.values()})
        }
        built = {
            name: self.build(f"Artifact{camel(name)}", name, recipe.model_dump_json())
            for name, recipe in models.items()
        }
        for name, artifact in built.items():
            self.warn(artifact, name, models[name].warnings)
            self.output_artifacts(artifact, f"{camel(name)}Artifacts")
        for key, endpoint in self.settings.endpoints.items():
            image, artifact = images[models[endpoint.model].engine], built[endpoint.model]
            variants = endpoint.enabled_variants
            name = self.endpoint_name(key)
            serve(
                self,
                props=EndpointProps(key=key, name=name, artifacts=self.workload, settings=endpoint, image=image),
                models={
                    precision: ModelProps(
                        image_uri=image.uri,
                        key=artifact.model_key(precision),
                        environment=artifact.hashes(precision),
                    )
                    for precision in sorted({variant.precision for variant in variants.values()})
                },
                variants=[
                    VariantModel(
                        name=variant_name,
                        model=variant.precision,
                        instance_type=variant.instance_type,
                        instance_count=variant.instance_count,
                        weight=variant.weight,
                        shadow=variant.shadow,
                    )
                    for variant_name, variant in variants.items()
                ],
                resources=self.resources,
            )
            body = '{"question": "Where?", "context": "It is in Rome."}'
            variant_name = next(iter(endpoint.production_variants))
            command = invoke_command(name, "application/json", body, target_variant=variant_name)
            self.output(f"{camel(key)}Invoke", command)
        return []
