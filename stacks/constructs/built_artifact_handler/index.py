"""Custom resources of a model build: Custom::BuiltArtifact starts it, and Custom::BuildWait goes on waiting for it.

CloudFormation gives a custom resource one hour. The first resource starts a build and waits for most of an hour, then
the next one waits, until the build has ended. The last of them returns what the build reported.
"""

import json
import time
from collections.abc import Mapping
from typing import Any

import boto3
from botocore.exceptions import ClientError

Event = dict[str, Any]
SUMMARY = "summary.json"
FAILURE = "failure.json"
REUSED = "reused"
"""In place of a build's ID: its result was there already."""
_WAIT_SECONDS = 55 * 60
"""How long one resource waits; five minutes of CloudFormation's hour stay for starting and ending."""


def on_event(event: Event, context: object) -> dict[str, Any]:
    """Start the build unless its summary exists already; on delete, remove everything under the prefix.

    A resource that goes on waiting has the build's ID, and does neither.
    """
    del context
    properties = event["ResourceProperties"]
    project, bucket, prefix = properties["ProjectName"], properties["Bucket"], properties["Prefix"]
    if event["RequestType"] == "Delete":
        if event["PhysicalResourceId"] == _physical_id(project, prefix):
            _delete_prefix(bucket, prefix)
        return {"PhysicalResourceId": event["PhysicalResourceId"]}
    if "BuildId" in properties:
        return {"PhysicalResourceId": f"wait/{prefix}", "Data": _waiting(prefix, properties["BuildId"])}
    build_id = REUSED
    if _read(bucket, f"{prefix}/{SUMMARY}") is None:
        overrides = {"RECIPE": properties["Recipe"], "ARTIFACT_PREFIX": prefix}
        started = boto3.client("codebuild").start_build(
            projectName=project,
            environmentVariablesOverride=[
                {"name": name, "value": value, "type": "PLAINTEXT"} for name, value in overrides.items()
            ],
        )
        build_id = started["build"]["id"]
    return {"PhysicalResourceId": _physical_id(project, prefix), "Data": _waiting(prefix, build_id)}


def is_complete(event: Event, context: object) -> dict[str, Any]:
    """Tells whether the build is done, or the time for this resource over; raises the reason of a failed build."""
    del context
    if event["RequestType"] == "Delete":
        return {"IsComplete": True}
    properties = event["ResourceProperties"]
    bucket, prefix, build_id = properties["Bucket"], properties["Prefix"], event["Data"]["BuildId"]
    if build_id != REUSED:
        build = boto3.client("codebuild").batch_get_builds(ids=[build_id])["builds"][0]
        if build["buildStatus"] == "IN_PROGRESS":
            if properties["WaitsOn"] == "true" and time.time() > float(event["Data"]["Until"]):
                return {"IsComplete": True, "Data": {"Prefix": prefix, "BuildId": build_id}}
            return {"IsComplete": False}
        if build["buildStatus"] != "SUCCEEDED":
            raise RuntimeError(_reason(bucket, prefix, build))
    summary = _read(bucket, f"{prefix}/{SUMMARY}")
    if summary is None:
        raise RuntimeError(f"build {build_id} succeeded but left no {SUMMARY} under s3://{bucket}/{prefix}")
    return {"IsComplete": True, "Data": {"Prefix": prefix, "BuildId": build_id, **_hashes(json.loads(summary))}}


def _waiting(prefix: str, build_id: str) -> dict[str, str]:
    """Return the attributes of a resource that waits for a build; Until: end of its time, in epoch seconds."""
    return {"Prefix": prefix, "BuildId": build_id, "Until": f"{time.time() + _WAIT_SECONDS:.0f}"}


def _hashes(summary: Mapping[str, Any]) -> dict[str, str]:
    """Return an attribute for each hash of an archive with a manifest; a response holds 4 KiB, so for no others."""
    found: dict[str, str] = {}
    for name, facts in (summary.get("artifacts") or {}).items():
        if "manifest_sha256" in facts:
            camel = "".join(part.capitalize() for part in name.split("_"))
            found |= {f"{camel}Sha256": facts["sha256"], f"{camel}ManifestSha256": facts["manifest_sha256"]}
    return found


def _physical_id(project: str, prefix: str) -> str:
    return f"{project}/{prefix}"


def _reason(bucket: str, prefix: str, build: Mapping[str, Any]) -> str:
    failure = _read(bucket, f"{prefix}/{FAILURE}")
    if failure is not None:
        return f"{json.loads(failure)['message']} (build {build['id']})"
    messages = [
        f"{phase['phaseType']}: {context['message']}"
        for phase in build.get("phases", [])
        for context in phase.get("contexts") or []
        if context.get("message")
    ]
    link = (build.get("logs") or {}).get("deepLink", "its CloudWatch log")
    return f"build {build['id']} ended {build['buildStatus']}: {'; '.join(messages) or 'no reason given'}; see {link}"


def _read(bucket: str, key: str) -> bytes | None:
    s3 = boto3.client("s3")
    # Reading a missing object answers 403 where the role may list this prefix only.
    if not s3.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1)["KeyCount"]:
        return None
    content: bytes = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    return content


def _delete_prefix(bucket: str, prefix: str) -> None:
    s3 = boto3.client("s3")
    try:
        for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=f"{prefix}/"):
            found = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
            if found:
                objects: Any = [{"Key": entry["Key"], "VersionId": entry["VersionId"]} for entry in found]
                s3.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True})
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchBucket":
            raise
