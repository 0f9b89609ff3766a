"""Settings and checks of what a deployment is built from: base images and models."""

import re
from typing import Annotated

from pydantic import AfterValidator

from containers.neuron_encoder.sdk import RELEASE
from model_build.encoder.recipe import HuggingFaceSource, ModelSource
from stacks.settings.base import Settings

PYTHON_BASE = "public.ecr.aws/docker/library/python:3.11-slim"
"""The tag that the Dockerfiles are built on without a setting; a test holds them to it.

Docker Hub, whose copy this is, limits pulls from the addresses that CodeBuild shares.
"""
NEURON_BASE = RELEASE.image
"""The same of the image for NeuronCores, with the SDK that models are traced with."""
_BY_DIGEST = re.compile(r"[a-z0-9][\w.-]*(:\d+)?(/[\w.-]+)*(:[\w.-]+)?@sha256:[0-9a-f]{64}", re.ASCII)


def how_to_pin(image: str) -> str:
    """Return how to find the digest that a tag names now."""
    return f"give {image}@sha256:DIGEST, whose 64 hex digits `docker buildx imagetools inspect {image}` prints"


def _by_digest(value: str) -> str:
    """Return an image reference as it is; raise ValueError for one without a digest, which its owner can move."""
    if not _BY_DIGEST.fullmatch(value):
        raise ValueError(f"{value!r} does not name an image by its digest: {how_to_pin(value.partition('@')[0])}")
    return value


ImageByDigest = Annotated[str, AfterValidator(_by_digest)]


class Images(Settings):
    """Base images of this project's images, by digest, so that one commit always builds on the same base."""

    base: ImageByDigest | None = None
    """Base with Python 3.11 for every image except the one for NeuronCores. Without it, the tag
    public.ecr.aws/docker/library/python:3.11-slim, which moves with each security update."""
    neuron_base: ImageByDigest | None = None
    """Base with the Neuron SDK. Without it, the tag of AWS's container that the Dockerfile names."""

    def chosen(self, *, on_neuron: bool) -> str | None:
        """Return the base that is set for an image."""
        return self.neuron_base if on_neuron else self.base


def base_warning(*, on_neuron: bool) -> str:
    """Return the warning of a deployment to production whose images are built on a tag."""
    setting, image = ("neuron_base", NEURON_BASE) if on_neuron else ("base", PYTHON_BASE)
    return f"images.{setting} is not set, so images are built on the tag {image}, which may move: {how_to_pin(image)}"


def check_revision(source: ModelSource, path: str) -> None:
    """Raise ValueError for a model of the hub that production would build from a branch or tag.

    path: of the source in the deployment file.
    """
    if isinstance(source, HuggingFaceSource) and not source.is_pinned and not source.allow_moving_revision:
        raise ValueError(
            f"{path}.revision is {source.revision!r} in profile prod, a branch or tag that the model's owner may move: "
            f"give a commit of 40 hex digits; {source.how_to_pin}. To accept that the model may change without a "
            "change here, set allow_moving_revision: true"
        )
