"""Build an unchanged Dockerfile with Podman, on the base image that this machine has."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from local_aws.podman.base_image import OFFICIAL, BaseImage
from local_aws.podman.engine import Podman

BASE_ARGUMENT = "BASE_IMAGE"
_OFFICIAL_PREFIXES = (OFFICIAL, "python:3.11-slim", "docker.io/library/python:3.11-slim")
_BUILD_SECONDS = 1800


@dataclass(frozen=True, slots=True)
class Built:
    """An image in the store. digest: `sha256:...` of its manifest. bytes: unpacked size of its layers."""

    id: str
    digest: str
    bytes: int
    layers: int


def build(
    podman: Podman, base: BaseImage, context: Path, dockerfile: Path, tag: str, arguments: Mapping[str, str]
) -> Built:
    """Build and tag an image; raise EngineError with the last lines of a failed build.

    If the argument BASE_IMAGE names the official Python, `base` replaces it. Any other base is kept, and must be in
    the store.
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
    """Return what the store knows about an image; raise EngineError if it has no image with that name."""
    fields = podman.call(
        "image", "inspect", "--format", "{{.Id}} {{.Digest}} {{.Size}} {{len .RootFS.Layers}}", name
    ).split()
    return Built(fields[0], fields[1], int(fields[2]), int(fields[3]))
