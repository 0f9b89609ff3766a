"""A deployed workload: its stack's outputs, and the S3 objects they refer to."""

from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

import boto3

from stacks.naming import camel
from stacks.settings.deployment import Deployment
from stacks.settings.workload import Workload

Kind = TypeVar("Kind", bound=Workload)


@dataclass(frozen=True)
class DeployedWorkload(Generic[Kind]):
    """One workload of a deployment, in the account of this process's AWS clients."""

    deployment: Deployment
    name: str
    settings: Kind

    def endpoint_name(self, key: str) -> str:
        """Return the name of the endpoint with that key."""
        return self.deployment.endpoint_name(self.name, key)

    @cached_property
    def outputs(self) -> dict[str, str]:
        """Outputs of the workload's stack by key, read once; errors of the client library pass through."""
        return stack_outputs(self.deployment, self.name)


def stack_outputs(deployment: Deployment, name: str) -> dict[str, str]:
    """Return the outputs of a stack by key, where `name` is a workload or a platform stack.

    Errors of the client library pass through.
    """
    stack_name = f"{deployment.environment.capitalize()}-{camel(name)}"
    stack = boto3.client("cloudformation").describe_stacks(StackName=stack_name)["Stacks"][0]
    return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}


def read_bytes(url: str) -> bytes:
    """Return the content of the S3 object at an `s3://` URL."""
    bucket, _, key = url.removeprefix("s3://").partition("/")
    return boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()


def read_object(url: str) -> str:
    """Return the text of the S3 object at an `s3://` URL."""
    return read_bytes(url).decode()


def list_objects(url: str) -> list[str]:
    """Return the keys of the S3 objects under an `s3://` URL, in order and without the URL's prefix."""
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    pages = boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return [found["Key"].removeprefix(prefix) for page in pages for found in page.get("Contents", [])]
