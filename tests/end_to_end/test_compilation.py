"""Compilation jobs through boto3 against a running account: a real model in, a rewritten one out, or a reason."""

import hashlib
import io
import json
import subprocess
import tarfile
import time
from pathlib import Path
from typing import Any

import boto3
import pytest

from local_aws import fake_images
from local_aws.account import ROOT, LocalAccount

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(600)]
BUCKET = "models"
MAKE = """
import sys
import tensorflow as tf
image = tf.TensorSpec((None, 4, 4, 3), tf.float32, name="image")
mean = tf.function(lambda image: {"mask": tf.reduce_mean(image, -1, keepdims=True) * tf.constant(2.0)})
tf.saved_model.save(tf.Module(), sys.argv[1], signatures={"serving_default": mean.get_concrete_function(image)})
"""
ANSWER = """
import sys
import tensorflow as tf
serve = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
mask = serve(image=tf.fill((1, 4, 4, 3), 0.25))["mask"]
print(serve.structured_input_signature[1]["image"].shape, float(mask[0, 0, 0, 0]))
"""


def python(script: str, argument: Path) -> str:
    """Runs a few lines where TensorFlow is."""
    command, *_ = fake_images.neo_compiler(ROOT / ".cache")
    done = subprocess.run(
        [command, "-c", script, str(argument)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def graph(account: LocalAccount, tmp_path_factory: pytest.TempPathFactory) -> bytes:  # noqa: ARG001 - needs a running account
    """The graph of a SavedModel, whose archive is in the account's S3 as model.tar.gz."""
    folder = tmp_path_factory.mktemp("saved")
    python(MAKE, folder / "model/1")
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        tar.add(folder / "model", "model")
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key="in/model.tar.gz", Body=archive.getvalue())
    return (folder / "model/1/saved_model.pb").read_bytes()


def compiled(name: str, shapes: dict[str, list[int]]) -> dict[str, Any]:
    """A job's description once it has ended."""
    sagemaker = boto3.client("sagemaker")
    sagemaker.create_compilation_job(
        CompilationJobName=name,
        RoleArn="arn:aws:iam::000000000000:role/compile",
        InputConfig={
            "S3Uri": f"s3://{BUCKET}/in/model.tar.gz",
            "DataInputConfig": json.dumps(shapes),
            "Framework": "TENSORFLOW",
            "FrameworkVersion": "2.9",
        },
        OutputConfig={"S3OutputLocation": f"s3://{BUCKET}/out", "TargetDevice": "ml_g4dn"},
        StoppingCondition={"MaxRuntimeInSeconds": 300},
    )
    deadline = time.monotonic() + 300
    while True:
        job = dict(sagemaker.describe_compilation_job(CompilationJobName=name))
        if job["CompilationJobStatus"] not in ("STARTING", "INPROGRESS"):
            return job
        assert time.monotonic() < deadline, job
        time.sleep(0.2)


def test_a_compiled_model_is_another_graph_of_one_shape_that_answers_alike_and_says_who_made_it(
    graph: bytes, tmp_path: Path
) -> None:
    job = compiled("works", {"image": [1, 4, 4, 3]})
    assert (job["CompilationJobStatus"], job["FailureReason"]) == ("COMPLETED", "")
    assert job["ModelArtifacts"] == {"S3ModelArtifacts": f"s3://{BUCKET}/out/model-ml_g4dn.tar.gz"}
    body = boto3.client("s3").get_object(Bucket=BUCKET, Key="out/model-ml_g4dn.tar.gz")["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        tar.extractall(tmp_path)
    made = tmp_path / "model/1/saved_model.pb"
    assert hashlib.sha256(made.read_bytes()).digest() != hashlib.sha256(graph).digest()
    assert python(ANSWER, tmp_path / "model/1") == "(1, 4, 4, 3) 0.5"
    assert "Neo did not compile it" in (tmp_path / "NOTICE.txt").read_text()


@pytest.mark.usefixtures("graph")
def test_a_model_and_a_shape_that_do_not_go_together_fail_with_the_reason() -> None:
    job = compiled("other-name", {"input": [1, 4, 4, 3]})
    assert job["CompilationJobStatus"] == "FAILED"
    assert job["FailureReason"] == (
        "ClientError: InputConfiguration: DataInputConfig names input, but the model takes image"
    )
    job = compiled("other-size", {"image": [1, 8, 8, 3]})
    assert "shape of 'image' is [1, 8, 8, 3], but the model takes (None, 4, 4, 3)" in job["FailureReason"]
    rows = boto3.client("sagemaker").list_compilation_jobs(StatusEquals="FAILED")["CompilationJobSummaries"]
    assert {row["CompilationJobName"] for row in rows} == {"other-name", "other-size"}
