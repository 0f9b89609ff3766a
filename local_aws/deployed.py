"""What a deployment says of itself once it is there, and the machine that figures come from."""

import os
from pathlib import Path

import boto3
import httpx

from local_aws.account import LocalAccount
from stacks.naming import camel
from stacks.settings import Deployment

_STATUS_SECONDS = 10.0


def machine() -> str:
    """Processor and core count, to stand beside every figure."""
    name = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            name = line.partition(":")[2].strip()
            break
    return f"{name}, {os.cpu_count()} cores"


def stack_outputs(settings: Deployment, workload: str) -> dict[str, str]:
    """Outputs of a workload's stack, by their keys."""
    name = f"{settings.environment.capitalize()}-{camel(workload)}"
    stack = boto3.client("cloudformation").describe_stacks(StackName=name)["Stacks"][0]
    return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}


def read_object(url: str) -> str:
    """The text of an S3 object by its `s3://` URL."""
    bucket, _, key = url.removeprefix("s3://").partition("/")
    return boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read().decode()


def list_objects(url: str) -> list[str]:
    """What follows a prefix's `s3://` URL in the keys of its objects, in order."""
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    pages = boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return [found["Key"].removeprefix(prefix) for page in pages for found in page.get("Contents", [])]


def ready_servers(account: LocalAccount) -> dict[str, tuple[str, ...]]:
    """URLs of the replicas of a local account that take requests, by endpoint; errors of httpx pass through."""
    status = httpx.get(
        f"{account.runtime_url}/_local/status", auth=account.auth(), timeout=_STATUS_SECONDS, trust_env=False
    )
    status.raise_for_status()
    return {
        endpoint["endpoint"]: tuple(
            f"http://127.0.0.1:{replica['port']}"
            for variant in endpoint["variants"]
            for replica in variant["replicas"]
            if replica["ready"]
        )
        for endpoint in status.json()
    }
