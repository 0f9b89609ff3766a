"""A Dockerfile built by Podman as it is, on the base image that this machine has."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from local_aws.podman.base_image import BaseImage
from local_aws.podman.engine import Podman

BASE_ARGUMENT = "BASE_IMAGE"
_OFFICIAL_PREFIXES = ("python:3.11-slim", "docker.io/library/python:3.11-slim")
_BUILD_SECONDS = 1800


@dataclass(frozen=True, slots=True)
class Built:
    """An image in the store. digest: `sha256:...` of its manifest; bytes: of its layers, unpacked."""

    id: str
    digest: str
    bytes: int
    layers: int


def build(
    podman: Podman, base: BaseImage, context: Path, dockerfile: Path, tag: str, arguments: Mapping[str, str]
) -> Built:
    """Builds and tags an image; raises EngineError with the last lines of a build that failed.

    A BASE_IMAGE among the arguments that is the official Python is replaced by `base`; any other is left as it is,
    and must be in the store.
    """
    wanted = arguments.get(BASE_ARGUMENT, _OFFICIAL_PREFIXES[0])
    chosen = base.name if wanted.startswith(_OFFICIAL_PREFIXES) else wanted
    given = {**arguments, BASE_ARGUMENT: chosen}
    podman.call(
        "build",
        "--network=host",
        "--pull=never",
        "--layers",
        "--quiet",
        *(f"--build-arg={name}={value}" for name, value in sorted(given.items())),
        f"--tag={tag}",
        f"--file={dockerfile}",
        str(context),
        timeout=_BUILD_SECONDS,
    )
    return inspect(podman, tag)


def inspect(podman: Podman, name: str) -> Built:
    """What the store says of an image; raises EngineError where it has none of that name."""
    answer = podman.call(
        "image", "inspect", "--format", "{{.Id}} {{.Digest}} {{.Size}} {{len .RootFS.Layers}}", name
    ).split()
    return Built(answer[0], answer[1], int(answer[2]), int(answer[3]))
