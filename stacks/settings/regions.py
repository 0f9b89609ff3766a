"""AWS regions in settings: the known ones, and those that have what a deployment may use.

Regions are refused only where a source says that they lack something. Tests compare each list with its source.
"""

import difflib
from functools import cache
from typing import Annotated

from botocore.loaders import Loader
from pydantic import AfterValidator, Field


@cache
def known_regions() -> frozenset[str]:
    """Return the regions of all partitions known to the installed botocore; read from its data files."""
    partitions = Loader().load_data("endpoints")["partitions"]
    return frozenset(region for partition in partitions for region in partition["regions"])


def _known_region(value: str) -> str:
    if value not in known_regions():
        close = difflib.get_close_matches(value, sorted(known_regions()), n=3)
        hint = f"did you mean {', '.join(close)}?" if close else "for example eu-west-1"
        raise ValueError(f"{value!r} is not an AWS region; {hint}")
    return value


Region = Annotated[str, AfterValidator(_known_region), Field(json_schema_extra={"examples": ["eu-west-1"]})]

FLEETS = frozenset({
    "ap-northeast-1", "ap-south-1", "ap-southeast-1", "ap-southeast-2", "eu-central-1", "eu-west-1", "sa-east-1",
    "us-east-1", "us-east-2", "us-west-2",
})  # fmt: skip
"""Regions with CodeBuild fleets of environment type LINUX_CONTAINER: `environmentType` of CreateFleet in the CodeBuild
API reference, 2026-12-01."""
WITHOUT_CODEBUILD = frozenset({"ap-east-2", "ca-west-1", "mx-central-1"})
"""Regions without AWS::CodeBuild::Project: CloudFormation's resource schemas of 2026-10-20, in cfn-lint 1.58.0."""
WITHOUT_BUDGETS = frozenset({
    "af-south-1", "ap-east-1", "ap-east-2", "ap-northeast-3", "ap-south-2", "ap-southeast-3", "ap-southeast-4",
    "ap-southeast-5", "ap-southeast-6", "ap-southeast-7", "ca-west-1", "eu-central-2", "eu-north-1", "eu-south-1",
    "eu-south-2", "il-central-1", "me-central-1", "mx-central-1", "us-gov-east-1", "us-gov-west-1",
})  # fmt: skip
"""Regions without AWS::Budgets::Budget: the same schemas."""
WITHOUT_COST_ANOMALIES = frozenset({
    "ap-east-2", "ap-southeast-5", "ap-southeast-6", "ap-southeast-7", "mx-central-1", "us-gov-east-1",
    "us-gov-west-1",
})  # fmt: skip
"""Regions without AWS::CE::AnomalyMonitor and AWS::CE::AnomalySubscription: the same schemas."""
WITHOUT_INFERENCE_COMPONENTS = frozenset({
    "af-south-1", "ap-east-1", "ap-east-2", "ap-northeast-3", "ap-south-2", "ap-southeast-4", "ap-southeast-5",
    "ap-southeast-6", "ap-southeast-7", "ca-west-1", "cn-north-1", "cn-northwest-1", "eu-central-2", "eu-south-1",
    "eu-south-2", "eu-west-3", "il-central-1", "mx-central-1", "us-gov-east-1", "us-gov-west-1", "us-west-1",
})  # fmt: skip
"""Regions without AWS::SageMaker::InferenceComponent: the same schemas."""


def check_codebuild(region: str, setting: str = "region") -> None:
    """Raise ValueError for a region in which nothing can be built."""
    if region in WITHOUT_CODEBUILD:
        raise ValueError(f"{setting} is {region!r}: CloudFormation has no CodeBuild projects there; use another region")
