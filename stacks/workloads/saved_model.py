"""The stack of the kind `saved_model`: one network on TensorFlow Serving, Neo and OpenVINO, side by side."""

import re
from pathlib import Path

from containers.saved_model.signature import CHANNELS, IMAGE_SIDE, INPUT_NAME
from dashboards.body import Row
from model_build import saved_model
from model_build.saved_model.reference import REFERENCE_FILE
from sizing.instances import instance
from stacks.constructs.built_artifact import BuiltArtifact
from stacks.constructs.compiled_model import CheckedOn, CompiledModel, ModelCompiler
from stacks.constructs.execution_role import ServedEndpoint
from stacks.constructs.hosted_model import ModelProps
from stacks.constructs.images import ServedImage, container_image, neo_tensorflow_image, tensorflow_serving_image
from stacks.constructs.served_endpoint import EndpointProps, VariantModel, serve
from stacks.naming import camel, tuning_endpoint_name
from stacks.settings.neo import NeoCompilation
from stacks.settings.saved_model import SavedModel, SavedModelEndpoint
from stacks.workloads.base import WorkloadStack


class SavedModelStack(WorkloadStack[SavedModel]):
    """Build the network of the settings, and serve it from each endpoint's server."""

    def serve(self) -> list[Row]:
        """Add images, the build, compilations and endpoints."""
        self._images: dict[str, ServedImage] = {}
        for endpoint in sorted(self.settings.endpoints.values(), key=lambda one: one.server):
            self._image(endpoint)
        built = self.build("Artifact", self.settings.compiled_model, self.settings.recipe.model_dump_json())
        self.output_artifacts(built)
        self._compiler = self._add_compiler() if self.settings.compilations else None
        for key, endpoint in self.settings.endpoints.items():
            self._serve(key, endpoint, built)
        for key, device in self.settings.compiled_for_devices.items():
            self._compile(f"{key}_device", device, built, None)
        return []

    def _add_compiler(self) -> ModelCompiler:
        return ModelCompiler(
            self,
            "Compiler",
            environment=self.deployment.environment,
            workload=self.workload,
            model=self.settings.compiled_model,
            max_runtime_seconds=max(each.max_runtime_seconds for each in self.settings.compilations),
            resources=self.resources,
        )

    def _serve(self, key: str, endpoint: SavedModelEndpoint, built: BuiltArtifact) -> None:
        image, name = self._image(endpoint), self.endpoint_name(key)
        # `inference tune` serves the same model on a temporary endpoint, with the same role.
        tuning = [ServedEndpoint(name=tuning_endpoint_name(name), alarm_names=[])] if endpoint.tunable else []
        served = serve(
            self,
            props=EndpointProps(
                key=key,
                name=name,
                artifacts=self.workload,
                settings=endpoint,
                image=image,
                also_served=tuning,
                component=endpoint.inference_component,
            ),
            models={"": self._model(key, endpoint, built, image)},
            variants=[VariantModel.only(endpoint)],
            resources=self.resources,
        )
        inference_script = self.settings.recipe.png_signature
        self.warn(served, "without-effect", endpoint.warnings(inference_script=inference_script))

    def _model(self, key: str, endpoint: SavedModelEndpoint, built: BuiltArtifact, image: ServedImage) -> ModelProps:
        if endpoint.neo is None:
            archive = endpoint.artifact
            environment = endpoint.environment() | built.hashes(archive)
            return ModelProps(image_uri=image.uri, key=built.model_key(archive), environment=environment)
        check = CheckedOn(image=image, instance_type=endpoint.instance_type, reference_key=built.key(REFERENCE_FILE))
        # Neo writes an archive of its own, whose hash no build reports.
        compiled = self._compile(key, endpoint.neo, built, check)
        return ModelProps(image_uri=image.uri, key=compiled.key, environment=endpoint.environment())

    def _compile(
        self, name: str, compilation: NeoCompilation, built: BuiltArtifact, check: CheckedOn | None
    ) -> CompiledModel:
        assert self._compiler is not None, "the settings' compilations have made one"
        compiled = CompiledModel(
            self,
            f"{camel(name)}Compiled",
            compiler=self._compiler,
            built=built,
            model="tensorflow",
            inputs={INPUT_NAME: (1, IMAGE_SIDE, IMAGE_SIDE, CHANNELS)},
            settings=compilation,
            check=check,
        )
        png_signature = self.settings.recipe.png_signature
        self.warn(compiled, "neo", compilation.warnings(saved_with=_build_tensorflow(), png_signature=png_signature))
        self.output(f"{camel(name)}CompiledModel", f"s3://{self.resources.artifacts.bucket_name}/{compiled.key}")
        self.output(f"{camel(name)}CompiledModelVerification", compiled.verification)
        return compiled

    def _image(self, endpoint: SavedModelEndpoint) -> ServedImage:
        """Return the server's image, built once for all endpoints."""
        neo = endpoint.neo
        processor = instance(endpoint.instance_type).processor
        name = endpoint.server if neo is None else f"neo_{neo.processor}_{neo.version.image.replace('.', '')}"
        if endpoint.server == "tensorflow_serving" and processor == "gpu":
            name = f"{name}_gpu"
        if name not in self._images:
            if neo is not None:
                image = neo_tensorflow_image(
                    self, f"{camel(name)}Image", version=neo.version.image, processor=neo.processor
                )
            elif endpoint.server == "tensorflow_serving":
                image = tensorflow_serving_image(self, f"{camel(name)}Image", processor=processor)
            else:
                image = container_image(self, "OpenVinoImage", deployment=self.deployment, folder="saved_model")
            self._images[name] = image
        return self._images[name]


def _build_tensorflow() -> str:
    """Return the TensorFlow version that the build saves models with."""
    requirements = Path(saved_model.__file__).with_name("requirements.txt").read_text()
    found = re.search(r"^tensorflow-cpu==(\S+)$", requirements, re.MULTILINE)
    assert found is not None, "the build's requirements pin tensorflow-cpu"
    return found[1]
