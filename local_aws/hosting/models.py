"""Convert a model in SageMaker's form to the specification of a replica."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from containers.serving.contract import ARCHIVE_HASH_VARIABLE
from local_aws import fake_images
from local_aws.account import Engine, default_cache, engine
from local_aws.environments import EnvironmentSetupError
from local_aws.hosting import images
from local_aws.hosting.artifacts import extracted
from local_aws.hosting.errors import ApiError
from local_aws.hosting.replica import ReplicaSpec

Document = dict[str, Any]
_AS_PROCESS = "runs as a process, in no container: Podman did not build its image"


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
        raise ApiError("ValidationException", f"the fake of {uri} could not be installed: {error}") from error
    if image is None:
        raise ApiError(
            "ValidationException",
            f"the image {uri} was not pushed to this account; of AWS's own images, the local account has fakes of "
            f"{', '.join(fake_images.FAKES)} only",
        )
    if engine() is Engine.PODMAN and not image.container:
        image = replace(image, note="; ".join(each for each in (image.note, _AS_PROCESS) if each))
    multi_model = container.get("Mode") == "MultiModel"
    url, variables = container["ModelDataUrl"], container.get("Environment") or {}
    return ReplicaSpec(
        image,
        None if multi_model else str(extracted(state, url, variables.get(ARCHIVE_HASH_VARIABLE, ""))),
        url if multi_model else None,
        variables,
        instance_type,
        memory_bytes,
    )
