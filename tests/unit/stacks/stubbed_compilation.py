"""Stubbed AWS clients for the custom resource that compiles a model, and what it is called with."""

import gzip
import io
import json
import tarfile
from typing import Any

import boto3
from botocore.response import StreamingBody
from botocore.stub import ANY, Stubber

JOB, CHECK = "dev-neo-1", "dev-neo-1-check"
REQUEST = {"RoleArn": "arn:aws:iam::123456789012:role/compile", "StoppingCondition": {"MaxRuntimeInSeconds": 900}}
REQUEST |= {"OutputConfig": {"S3OutputLocation": "s3://b/w/neo/1/", "TargetDevice": "ml_g4dn"}}
CHECKED_ON = {
    "Name": CHECK,
    "Image": "registry/sagemaker-inference-tensorflow:2.9.2-gpu-py3",
    "InstanceType": "ml.g4dn.xlarge",
    "RoleArn": "arn:aws:iam::123456789012:role/serve-it",
    "ReferenceKey": "w/m/reference.json.gz",
    "MeanDifference": 0.01,
    "ChangedPixels": 0.25,
}
PROPERTIES = {
    "JobName": JOB,
    "Bucket": "b",
    "Prefix": "w/neo/1",
    "ModelKey": "w/m/tensorflow/model.tar.gz",
    "Job": json.dumps(REQUEST),
    "Check": json.dumps(CHECKED_ON),
}
COMPILED = "w/neo/1/model-ml_g4dn.tar.gz"
ORIGINAL_FILES = {
    "model/1/saved_model.pb": b"graph",
    "model/1/variables/variables.index": b"none",
    "manifest.json": b"{}",
}
COMPILED_FILES = {"model/1/saved_model.pb": b"faster", "model/1/variables/variables.index": b"none"}
DELETED = [("delete_endpoint", "EndpointName"), ("delete_endpoint_config", "EndpointConfigName")]
DELETED += [("delete_model", "ModelName")]


def archive(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return made.getvalue()


class Aws:
    """Stubbed clients, and what they are asked in the order in which they must be."""

    def __init__(self) -> None:
        self.clients: dict[str, Any] = {
            "s3": boto3.client("s3", region_name="us-east-1"),
            "sagemaker": boto3.client("sagemaker", region_name="us-east-1"),
            "sagemaker-runtime": boto3.client("sagemaker-runtime", region_name="us-east-1"),
        }
        self.stubs = {name: Stubber(client) for name, client in self.clients.items()}

    def job_is(self, status: str | None, reason: str = "") -> None:
        asked = {"CompilationJobName": JOB}
        if status is None:
            self.stubs["sagemaker"].add_client_error(
                "describe_compilation_job", "ResourceNotFound", expected_params=asked
            )
            return
        answer: dict[str, Any] = {
            "CompilationJobName": JOB,
            "CompilationJobArn": "arn",
            "CompilationJobStatus": status,
            "CreationTime": 0,
            "LastModifiedTime": 0,
            "FailureReason": reason,
            "ModelArtifacts": {"S3ModelArtifacts": f"s3://b/{COMPILED}"},
            "InputConfig": {"S3Uri": "s3://b/m", "Framework": "TENSORFLOW"},
            **{name: REQUEST[name] for name in ("RoleArn", "OutputConfig", "StoppingCondition")},
        }
        self.stubs["sagemaker"].add_response("describe_compilation_job", answer, asked)

    def endpoint_is(self, status: str | None, reason: str = "") -> None:
        asked = {"EndpointName": CHECK}
        if status is None:
            self.stubs["sagemaker"].add_client_error("describe_endpoint", "ValidationException", expected_params=asked)
            return
        answer = {
            "EndpointName": CHECK,
            "EndpointArn": "arn:aws:sagemaker:us-east-1:123456789012:endpoint/check",
            "EndpointStatus": status,
            "CreationTime": 0,
            "LastModifiedTime": 0,
            **({"FailureReason": reason} if reason else {}),
        }
        self.stubs["sagemaker"].add_response("describe_endpoint", answer, asked)

    def check_is_removed(self, found: bool = True) -> None:
        for operation, argument in DELETED:
            if found:
                self.stubs["sagemaker"].add_response(operation, {}, {argument: CHECK})
            else:
                self.stubs["sagemaker"].add_client_error(
                    operation, "ValidationException", expected_params={argument: CHECK}
                )

    def check_is_started(self) -> None:
        sagemaker = self.stubs["sagemaker"]
        arn = "arn:aws:sagemaker:us-east-1:123456789012:model/check"
        model = {
            "ModelName": CHECK,
            "ExecutionRoleArn": CHECKED_ON["RoleArn"],
            "EnableNetworkIsolation": True,
            "PrimaryContainer": {"Image": CHECKED_ON["Image"], "ModelDataUrl": f"s3://b/{COMPILED}"},
        }
        variant = {
            "VariantName": "AllTraffic",
            "ModelName": CHECK,
            "InstanceType": "ml.g4dn.xlarge",
            "InitialInstanceCount": 1,
        }
        config = {"EndpointConfigName": CHECK, "ProductionVariants": [variant]}
        sagemaker.add_response("create_model", {"ModelArn": arn}, model)
        sagemaker.add_response("create_endpoint_config", {"EndpointConfigArn": arn}, config)
        asked = {"EndpointName": CHECK, "EndpointConfigName": CHECK}
        sagemaker.add_response("create_endpoint", {"EndpointArn": arn}, asked)

    def object_is(self, key: Any, content: bytes) -> None:
        body = StreamingBody(io.BytesIO(content), len(content))
        self.stubs["s3"].add_response("get_object", {"Body": body}, {"Bucket": "b", "Key": key})

    def record_is(self, verification: str | None) -> None:
        count = {"KeyCount": int(verification is not None)}
        self.stubs["s3"].add_response("list_objects_v2", count, {"Bucket": "b", "Prefix": ANY, "MaxKeys": 1})
        if verification is not None:
            self.object_is(ANY, json.dumps({"verification": verification}).encode())

    def archive_is_there(self, there: bool) -> None:
        asked = {"Bucket": "b", "Prefix": COMPILED, "MaxKeys": 1}
        self.stubs["s3"].add_response("list_objects_v2", {"KeyCount": int(there)}, asked)

    def archives_are(self, compiled: dict[str, bytes]) -> None:
        self.object_is(PROPERTIES["ModelKey"], archive(ORIGINAL_FILES))
        self.object_is(COMPILED, archive(compiled))

    def answers_are(self, recorded: list[Any], given: Any) -> None:
        sample = {"request": {"instances": [[0.5]]}, "answer": {"predictions": recorded}}
        self.object_is(CHECKED_ON["ReferenceKey"], gzip.compress(json.dumps({"samples": [sample]}).encode()))
        body = json.dumps(given).encode()
        self.stubs["sagemaker-runtime"].add_response(
            "invoke_endpoint",
            {"Body": StreamingBody(io.BytesIO(body), len(body))},
            {"EndpointName": CHECK, "ContentType": "application/json", "Body": b'{"instances": [[0.5]]}'},
        )
