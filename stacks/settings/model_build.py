"""Settings of where and from what models are built."""

import re
from collections.abc import Mapping
from typing import Annotated, Literal
from urllib.parse import urlparse

from pydantic import AfterValidator, Field

from sizing.instances import family_of
from stacks.settings.base import Settings
from stacks.settings.instance_types import either
from stacks.settings.regions import FLEETS, check_codebuild

BuildCompute = Literal["fleet", "on_demand"]
_CODE_ARTIFACT = re.compile(
    r"^(?P<domain>[a-z0-9-]+)-(?P<owner>\d{12})\.d\.codeartifact\.(?P<region>[a-z0-9-]+)\.amazonaws\.com$"
)
"""Host of a repository's endpoint ("Using CodeArtifact with Python" in the CodeArtifact user guide)."""


def code_artifact(index: str) -> Mapping[str, str] | None:
    """Domain, owner, region and repository of a CodeArtifact index URL; None for any other."""
    parsed = urlparse(index)
    found = _CODE_ARTIFACT.match(parsed.hostname or "")
    if found is None:
        return None
    return {**found.groupdict(), "repository": parsed.path.strip("/").split("/")[1]}


def _index(value: str) -> str:
    """Return an index URL unchanged; raise ValueError for one without HTTPS or with a wrong CodeArtifact path."""
    parsed = urlparse(value)
    if parsed.scheme != "https" or not parsed.hostname:
        raise ValueError("it must begin with https://, for example https://packages.example.com/simple/")
    if _CODE_ARTIFACT.match(parsed.hostname) and not re.fullmatch(r"/pypi/[\w.-]+/simple/?", parsed.path):
        raise ValueError(f"the path of a CodeArtifact index is /pypi/REPOSITORY/simple/, this one is {parsed.path!r}")
    return value


def _builds_x86(value: str) -> str:
    """Return an EC2 instance type unchanged; raise ValueError for one that the table of families knows as Arm."""
    family = family_of(value)
    if family is not None and family.architecture != "x86_64":
        raise ValueError(
            f"{value!r} has a 64-bit Arm processor, and builds run in x86 containers; for example c6i.2xlarge"
        )
    return value


class ModelBuild(Settings):
    """Where models are built."""

    compute: BuildCompute = "fleet"
    """`fleet` reserves C6i machines, which INT8 calibration needs, and bills them while the stack exists. `on_demand`
    uses shared CodeBuild machines. Their processor may lack AVX-512 VNNI, in which case the build stops and says so."""
    fleet_instance_type: Annotated[str, AfterValidator(_builds_x86)] = Field(
        default="c6i.2xlarge", pattern=r"^[a-z0-9-]+\.[a-z0-9]+$"
    )
    """EC2 instance type of the fleet's machines."""
    timeout_minutes: int = Field(default=110, ge=5, le=480)
    """Timeout of one build, in minutes."""
    queue_minutes: int = Field(default=50, ge=5, le=480)
    """How long a build may wait for a machine, in minutes. A fleet has one, which builds one model after another."""
    package_index: Annotated[str, AfterValidator(_index)] | None = None
    """HTTPS URL from which pip takes packages instead of PyPI. For a CodeArtifact repository, the build logs in with
    its role."""
    hub_token_secret: str | None = Field(
        default=None, pattern=r"^arn:[a-z-]+:secretsmanager:[a-z0-9-]+:\d{12}:secret:[\w/+=.@-]+$"
    )
    """ARN of a Secrets Manager secret whose text is a token for private Hugging Face models."""

    def check_region(self, region: str, *, on_fleet: bool) -> None:
        """Raise ValueError for a region without the machines; on_fleet: whether any build wants the fleet."""
        check_codebuild(region)
        if self.compute == "fleet" and on_fleet and region not in FLEETS:
            raise ValueError(
                f"model_build.compute is 'fleet' and region {region!r}: CodeBuild has no fleets there; set "
                f"model_build: {{compute: on_demand}}, or use one of {either(sorted(FLEETS))}"
            )

    def check_reachable(self) -> None:
        """Raise ValueError unless builds can reach their packages from a network without internet."""
        if self.package_index is None:
            raise ValueError(
                "private_network is set without model_build.package_index: builds install packages from PyPI, which "
                "that network does not reach; give the HTTPS URL of a mirror, for example of a CodeArtifact repository "
                "with PyPI upstream"
            )
