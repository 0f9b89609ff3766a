"""Custom resource Custom::CompiledModel: compiles a model with SageMaker Neo and checks the result.

All state is in AWS, under names from the properties, so every step may be repeated.
"""

import gzip
import hashlib
import json
import tarfile
import time
from collections.abc import Iterator
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

Event = dict[str, Any]
NOTICE_FILE = "NOTICE.txt"
"""Note in an archive that becomes part of the verification."""
_GRAPHS = (".pb", ".pbtxt")
_TEXTS = (".json", ".txt", ".md")
_RUNNING = ("STARTING", "INPROGRESS", "STOPPING")
_STARTING = ("Creating", "Updating", "SystemUpdating")
_PROPAGATION_ATTEMPTS, _PROPAGATION_SECONDS = 10, 6
"""Roles and policies of the same deployment take some seconds to propagate through IAM."""
_ANSWER_SECONDS = 70
"""SageMaker itself waits 60 s for a container; the first request to a compiled model may take long."""


def on_event(event: Event, context: object) -> dict[str, Any]:
    """Start the compilation unless its job exists already; on delete, stop a running one."""
    del context
    properties = event["ResourceProperties"]
    name, prefix = properties["JobName"], properties["Prefix"]
    if event["RequestType"] == "Delete":
        job = _job(name) if event["PhysicalResourceId"] == prefix else None
        if job is not None and job["CompilationJobStatus"] in _RUNNING[:2]:
            boto3.client("sagemaker").stop_compilation_job(CompilationJobName=name)
        return {"PhysicalResourceId": event["PhysicalResourceId"]}
    job, wanted = _job(name), json.loads(properties["Job"])
    if job is not None and job["CompilationJobStatus"] not in _RUNNING and not _is_there(job, wanted):
        # Job names are unique: without this, a failed deployment could never be retried.
        boto3.client("sagemaker").delete_compilation_job(CompilationJobName=name)
        job = None
    if job is None:
        _create_job(name, wanted)
    return {"PhysicalResourceId": prefix}


def is_complete(event: Event, context: object) -> dict[str, Any]:
    """Wait for the job, check its result and return its key; raise the reason why it cannot be served."""
    del context
    properties = event["ResourceProperties"]
    if event["RequestType"] == "Delete":
        ours = event["PhysicalResourceId"] == properties["Prefix"]
        return {"IsComplete": not ours or _deleted(properties)}
    name, bucket = properties["JobName"], properties["Bucket"]
    job = _job(name)
    if job is None:
        raise RuntimeError(f"compilation job {name} is gone: somebody deleted it; deploy again")
    status = job["CompilationJobStatus"]
    if status in _RUNNING:
        return {"IsComplete": False}
    if status != "COMPLETED":
        reason = job.get("FailureReason") or "no reason given"
        raise RuntimeError(f"Neo's job {name} ended {status}: {reason}; see log group /aws/sagemaker/CompilationJobs")
    compiled = job["ModelArtifacts"]["S3ModelArtifacts"].removeprefix(f"s3://{bucket}/")
    found = _read(bucket, _record(properties))
    if found is None:
        verification = _verified(properties, compiled)
        if verification is None:
            return {"IsComplete": False}
        body = json.dumps({"verification": verification, "job": name, "compiled": compiled})
        boto3.client("s3").put_object(Bucket=bucket, Key=_record(properties), Body=body.encode())
    else:
        verification = json.loads(found)["verification"]
    if "Check" in properties and not _check_is_gone(json.loads(properties["Check"])["Name"]):
        return {"IsComplete": False}
    return {"IsComplete": True, "Data": {"Key": compiled, "Verification": verification}}


def _verified(properties: dict[str, str], compiled: str) -> str | None:
    """Return the checks' result in words, or None while the check's endpoint starts; raises RuntimeError."""
    bucket = properties["Bucket"]
    if "Check" not in properties:
        return _check_changed(bucket, properties["ModelKey"], compiled, properties["JobName"])
    check = json.loads(properties["Check"])
    endpoint = _endpoint(check["Name"])
    if endpoint is None:
        _check_changed(bucket, properties["ModelKey"], compiled, properties["JobName"])
        _start_check(check, f"s3://{bucket}/{compiled}")
        return None
    if endpoint["EndpointStatus"] in (*_STARTING, "Deleting"):
        return None
    try:
        if endpoint["EndpointStatus"] != "InService":
            raise RuntimeError(
                f"the compiled model does not start on {check['InstanceType']} in {check['Image']}: "
                f"{endpoint.get('FailureReason', endpoint['EndpointStatus'])}"
            )
        changed = _check_changed(bucket, properties["ModelKey"], compiled, properties["JobName"])
        return f"{_check_answers(bucket, check)}; {changed}"
    finally:
        _discard_check(check["Name"])


def _check_changed(bucket: str, original: str, compiled: str, job: str) -> str:
    """Raise RuntimeError where Neo returned the model unchanged, as it does for a graph that it cannot compile."""
    before, after = _files(bucket, original), _files(bucket, compiled)
    graphs = {digest for name, (digest, _) in before.items() if name.endswith(_GRAPHS)}
    models = {name: digest for name, (digest, _) in after.items() if not name.endswith(_TEXTS)}
    new = [name for name, digest in models.items() if digest not in {known for known, _ in before.values()}]
    same = [name for name, digest in models.items() if digest in graphs]
    if same or not new:
        url = f"s3://{bucket}/{compiled}"
        returned = f"the model unchanged: {', '.join(same or models)} in {url} is identical to the input"
        raise RuntimeError(
            f"Neo job {job} returned {returned if models else f'no model: {url} has no model file'}. Neo does this for "
            "graphs that it cannot compile (github.com/neo-ai/neo-ai-dlr/issues/73); try another framework_version or "
            "target_device, or use server: tensorflow_serving"
        )
    notice = next((text for name, (_, text) in after.items() if name.rpartition("/")[2] == NOTICE_FILE), "")
    return f"{len(new)} of {len(models)} model files are new" + (f"; the archive says: {notice}" if notice else "")


def _files(bucket: str, key: str) -> dict[str, tuple[str, str]]:
    """Return the SHA-256 and the notice text of every file in an archive, by name."""
    found = {}
    body = boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"]
    with tarfile.open(fileobj=body, mode="r|gz") as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isreg() else None
            if content is None:
                continue
            digest, text = hashlib.sha256(), b""
            while chunk := content.read(1 << 20):
                digest.update(chunk)
                if member.name.rpartition("/")[2] == NOTICE_FILE:
                    text = (text + chunk)[:500]
            found[member.name.removeprefix("./")] = (digest.hexdigest(), text.decode(errors="replace").strip())
    return found


def _check_answers(bucket: str, check: dict[str, Any]) -> str:
    """Compare the compiled model's responses with those that the build recorded; raises RuntimeError."""
    recorded = boto3.client("s3").get_object(Bucket=bucket, Key=check["ReferenceKey"])["Body"].read()
    samples = json.loads(gzip.decompress(recorded))["samples"]
    # Standard retries: a container that warms up may miss SageMaker's 60 s once.
    runtime = boto3.client(
        "sagemaker-runtime",
        config=Config(read_timeout=_ANSWER_SECONDS, retries={"mode": "standard", "total_max_attempts": 3}),
    )
    difference, changed, pixels = 0.0, 0, 0
    for sample in samples:
        answer = runtime.invoke_endpoint(
            EndpointName=check["Name"], ContentType="application/json", Body=json.dumps(sample["request"]).encode()
        )["Body"].read()
        found = list(_numbers(json.loads(answer).get("predictions")))
        expected = list(_numbers(sample["answer"]["predictions"]))
        if len(found) != len(expected):
            raise RuntimeError(
                f"the compiled model answers {len(found)} numbers where the original answers {len(expected)}: "
                f"{answer[:200].decode(errors='replace')}"
            )
        difference += sum(abs(one - other) for one, other in zip(found, expected, strict=True))
        changed += sum((one >= 0.5) != (other >= 0.5) for one, other in zip(found, expected, strict=True))
        pixels += len(found)
    mean, share = difference / pixels, changed / pixels
    seen = (
        f"{len(samples)} images answered on {check['InstanceType']} with a mean difference of {mean:.2g} and "
        f"{share:.2%} of pixels changed"
    )
    # Written so that a difference that is no number is refused too.
    if not (mean <= check["MeanDifference"] and share <= check["ChangedPixels"]):
        raise RuntimeError(
            f"the compiled model does not answer as the original: {seen}, where neo.tolerance allows a mean difference "
            f"of {check['MeanDifference']} and {check['ChangedPixels']:.2%} changed; it is not served"
        )
    return seen


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, list):
        for member in value:
            yield from _numbers(member)
    elif isinstance(value, int | float):
        yield float(value)


def _start_check(check: dict[str, Any], model_url: str) -> None:
    """Serve the compiled model from an endpoint that exists only for the comparison."""
    name, client = check["Name"], boto3.client("sagemaker")
    # Leftovers of an interrupted attempt would conflict with these names.
    _discard_check(name)
    model: dict[str, Any] = {"VpcConfig": check["VpcConfig"]} if "VpcConfig" in check else {}
    client.create_model(
        ModelName=name,
        ExecutionRoleArn=check["RoleArn"],
        EnableNetworkIsolation=True,
        PrimaryContainer={"Image": check["Image"], "ModelDataUrl": model_url},
        **model,
    )
    config: dict[str, Any] = {"KmsKeyId": check["KmsKeyId"]} if "KmsKeyId" in check else {}
    client.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[
            {
                "VariantName": "AllTraffic",
                "ModelName": name,
                "InstanceType": check["InstanceType"],
                "InitialInstanceCount": 1,
            }
        ],
        **config,
    )
    client.create_endpoint(EndpointName=name, EndpointConfigName=name)


def _discard_check(name: str) -> None:
    """Start to delete the endpoint, and delete its configuration and model; missing ones are no error."""
    client = boto3.client("sagemaker")
    for delete, argument in (
        (client.delete_endpoint, "EndpointName"),
        (client.delete_endpoint_config, "EndpointConfigName"),
        (client.delete_model, "ModelName"),
    ):
        try:
            delete(**{argument: name})
        except ClientError as error:
            if error.response["Error"]["Code"] != "ValidationException":
                raise


def _check_is_gone(name: str) -> bool:
    """Remove the check's resources; return whether all of them are gone."""
    endpoint = _endpoint(name)
    # SageMaker refuses to delete an endpoint that is being created, whose configuration must stay until then.
    if endpoint is None or endpoint["EndpointStatus"] not in (*_STARTING, "Deleting"):
        _discard_check(name)
    return endpoint is None


def _deleted(properties: dict[str, str]) -> bool:
    """Remove the check's endpoint, the job and the compiled archives, in this order; return whether all are gone."""
    name = properties["JobName"]
    gone = "Check" not in properties or _check_is_gone(json.loads(properties["Check"])["Name"])
    job = _job(name)
    if not gone or (job is not None and job["CompilationJobStatus"] in _RUNNING):
        return False
    if job is not None:
        boto3.client("sagemaker").delete_compilation_job(CompilationJobName=name)
    _delete_prefix(properties["Bucket"], properties["Prefix"])
    return True


def _create_job(name: str, job: dict[str, Any]) -> None:
    for attempt in range(1, _PROPAGATION_ATTEMPTS + 1):
        try:
            boto3.client("sagemaker").create_compilation_job(CompilationJobName=name, **job)
            return
        except ClientError as error:
            code, message = error.response["Error"]["Code"], error.response["Error"]["Message"]
            unknown = code == "AccessDeniedException" or (code == "ValidationException" and "assume" in message)
            if not unknown or attempt == _PROPAGATION_ATTEMPTS:
                raise
        time.sleep(_PROPAGATION_SECONDS)


def _job(name: str) -> dict[str, Any] | None:
    try:
        return dict(boto3.client("sagemaker").describe_compilation_job(CompilationJobName=name))
    except ClientError as error:
        if error.response["Error"]["Code"] in ("ResourceNotFound", "ValidationException"):
            return None
        raise


def _endpoint(name: str) -> dict[str, Any] | None:
    try:
        return dict(boto3.client("sagemaker").describe_endpoint(EndpointName=name))
    except ClientError as error:
        if error.response["Error"]["Code"] == "ValidationException":
            return None
        raise


def _record(properties: dict[str, str]) -> str:
    """Key of the verification; another check of the same compilation is another record."""
    digest = hashlib.sha256(properties.get("Check", "").encode()).hexdigest()[:12]
    return f"{properties['Prefix']}/verified-{digest}.json"


def _is_there(job: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether a job that has ended left its archive where it is wanted, in a bucket that may be another by now."""
    location = wanted["OutputConfig"]["S3OutputLocation"]
    url = job["ModelArtifacts"]["S3ModelArtifacts"]
    if job["CompilationJobStatus"] != "COMPLETED" or not url.startswith(location):
        return False
    bucket, _, key = url.removeprefix("s3://").partition("/")
    return _exists(bucket, key)


def _exists(bucket: str, key: str) -> bool:
    """Asks for a list: reading a missing object answers 403 where the role may list its prefix only."""
    return bool(boto3.client("s3").list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1)["KeyCount"])


def _read(bucket: str, key: str) -> bytes | None:
    if not _exists(bucket, key):
        return None
    content: bytes = boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
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
