"""Convert a model in SageMaker's form to the specification of a replica."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from containers.serving.contract import ARCHIVE_HASH_VARIABLE
from local_aws import fake_images
from local_aws.account import Engine, default_cache, engine
from local_aws.environments import EnvironmentSetupError
from local_aws.hosting import images
from local_aws.hosting.errors import refused
from local_aws.hosting.model_data import ModelData
from local_aws.hosting.replica import ReplicaSpec

Document = dict[str, Any]
_AS_PROCESS = "runs as a process, in no container: Podman did not build its image"


def check(model: Document) -> None:
    """Raise ApiError for a model that CreateModel refuses, or that the local account cannot serve."""
    if model.get("PrimaryContainer") and model.get("Containers"):
        raise refused("PrimaryContainer and Containers are both set: use only one of them")
    containers = [model["PrimaryContainer"]] if model.get("PrimaryContainer") else model.get("Containers") or []
    if not containers:
        raise refused("the model has no container: set PrimaryContainer")
    if len(containers) > 1:
        raise refused(
            f"the model has {len(containers)} Containers: the local account supports neither inference pipelines nor "
            "direct invocation of several containers; use PrimaryContainer"
        )
    _check_container(containers[0])


def _check_container(container: Document) -> None:
    if not container.get("Image"):
        raise refused("the container has no Image")
    data, multi_model = ModelData.of(container), container.get("Mode") == "MultiModel"
    if multi_model and (data is None or "ModelDataSource" in container):
        raise refused("the container has Mode MultiModel: set ModelDataUrl to the S3 prefix of its models")
    if "MultiModelConfig" in container and not multi_model:
        raise refused("MultiModelConfig is set without Mode MultiModel")


def container_of(model: Document) -> Document:
    """Return the container of a model's record."""
    container: Document = model.get("PrimaryContainer") or model["Containers"][0]
    return container


def replica_spec(state: Path, container: Document, instance_type: str, memory_bytes: int | None = None) -> ReplicaSpec:
    """Return the specification of a container's replica, and fetch its archive; blocks.

    memory_bytes: limit of the replica; None for all memory of the instance. Raises ApiError for a missing image, and
    ModelDataError for an archive that cannot be fetched.
    """
    uri = container["Image"]
    try:
        image = images.find(state, uri) or fake_images.find(default_cache(), uri)
    except EnvironmentSetupError as error:
        raise refused(f"the fake of {uri} could not be installed: {error}") from error
    if image is None:
        raise refused(
            f"the image {uri} was not pushed to this account; of AWS's own images, the local account has fakes of "
            f"{', '.join(fake_images.FAKES)} only",
        )
    if engine() is Engine.PODMAN and not image.container:
        image = replace(image, note="; ".join(each for each in (image.note, _AS_PROCESS) if each))
    multi_model = container.get("Mode") == "MultiModel"
    data, variables = ModelData.of(container), container.get("Environment") or {}
    folder = None
    if data is not None and not multi_model:
        folder = str(data.folder(state, variables.get(ARCHIVE_HASH_VARIABLE, "")))
    return ReplicaSpec(
        image,
        folder,
        data.url if data is not None and multi_model else None,
        variables,
        instance_type,
        memory_bytes,
    )
