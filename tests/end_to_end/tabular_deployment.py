"""The deployment that test_tabular.py shares, and calls of its endpoints and models."""

from pathlib import Path
from typing import Any

import boto3
import yaml

from load_tests.closed_loop import Target
from tests.local_account import runtime

SAMPLE_BUCKET, SAMPLE_KEY = "sagemaker-sample-files", "datasets/tabular/synthetic/churn.txt"
SMALL, LARGE, SCALED = (Target(f"e2e-tabular-{key}", "AllTraffic") for key in ("small", "large", "scaled"))
ROW = "71,37,129.4,104,231.3,96,201.6,95,8.9,3,2,0,0,1,0,1"


def deployment_file(folder: Path) -> Path:
    path = folder / "e2e.yaml"
    scaling = {
        "min_capacity": 1,
        "max_capacity": 2,
        "target_invocations_per_instance": 120,
        "scale_in_cooldown_seconds": 60,
        "scale_out_cooldown_seconds": 30,
    }
    churn = {
        "recipe": {"source": {"kind": "s3"}},
        "memory_per_model_mib": 235,
        "endpoints": {
            "small": {"instance_type": "ml.c5.xlarge"},
            "large": {"instance_type": "ml.c5.2xlarge"},
            "scaled": {"instance_type": "ml.c5.large", "scaling": scaling},
        },
    }
    budget = {"monthly_usd": 100, "email": "ml-platform@example.com"}
    document = {
        "environment": "e2e",
        "workloads": {"tabular": {"kind": "tabular", **churn}},
        "budget": budget,
        "load_test": {},
    }
    path.write_text(yaml.safe_dump(document))
    return path


def put(models: str, name: str, body: bytes) -> None:
    bucket, _, prefix = models.removeprefix("s3://").partition("/")
    boto3.client("s3").put_object(Bucket=bucket, Key=prefix + name, Body=body)


def get(models: str, name: str) -> bytes:
    bucket, _, prefix = models.removeprefix("s3://").partition("/")
    return boto3.client("s3").get_object(Bucket=bucket, Key=prefix + name)["Body"].read()


def ask(target: Target, archive: str, body: str | bytes = ROW, **members: str) -> float:
    arguments: dict[str, Any] = {"ContentType": "text/csv", "TargetModel": archive, **members}
    answer = runtime().invoke_endpoint(EndpointName=target.endpoint, Body=body, **arguments)
    return float(answer["Body"].read())


def instances(target: Target) -> int:
    (variant,) = boto3.client("sagemaker").describe_endpoint(EndpointName=target.endpoint)["ProductionVariants"]
    return variant["CurrentInstanceCount"]
