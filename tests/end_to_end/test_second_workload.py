"""A second workload of a kind is deployed next to the first and destroyed again, and the first notices neither."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from botocore.exceptions import ClientError

from containers.tabular.features import FEATURES, archive_name
from local_aws.account import LocalAccount
from tests.local_account import (
    assert_nothing_is_deployed,
    bootstrap,
    bring_up,
    cdk,
    deploy,
    destroy,
    inference,
    replica_pids,
    runtime,
)
from tests.processors import needs_vnni

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(600)]
TABULAR: dict[str, Any] = {
    "kind": "tabular",
    "recipe": {"source": {"kind": "generated", "customers": 1530, "seed": 3}},
    "endpoints": {"only": {"instance_type": "ml.c5.xlarge"}},
}
ENCODER: dict[str, Any] = {
    "kind": "encoder",
    "models": {"minilm": {"source": {"kind": "demo"}, "max_seq_length": 320, "doc_stride": 96}},
    "endpoints": {
        "only": {
            "model": "minilm",
            "variants": {"AllTraffic": {"precision": "int8", "instance_type": "ml.c6i.large"}},
        }
    },
}
REQUESTS: dict[str, dict[str, Any]] = {
    "tabular": {
        "ContentType": "text/csv",
        "TargetModel": archive_name("CA"),
        "Body": ",".join(["0"] * len(FEATURES)),
    },
    "encoder": {
        "ContentType": "application/json",
        "Body": json.dumps({"question": "Who lives in Rome?", "context": "Anna lives in Rome."}),
    },
}


def deployment_file(folder: Path, **workloads: dict[str, Any]) -> Path:
    path = folder / "pair.yaml"
    path.write_text(yaml.safe_dump({"environment": "pair", "workloads": workloads}))
    return path


def served(workload: str, kind: str) -> tuple[str, list[int]]:
    """The configuration and the replicas of a workload's endpoint, which must respond."""
    name = f"pair-{workload}-only"
    assert runtime().invoke_endpoint(EndpointName=name, **REQUESTS[kind])["Body"].read()
    config = boto3.client("sagemaker").describe_endpoint(EndpointName=name)["EndpointConfigName"]
    return config, replica_pids(name, "AllTraffic")


def test_the_doctor_names_what_a_new_account_lacks_and_then_nothing(
    account: LocalAccount, state: Path, folder: Path
) -> None:
    del account
    path = deployment_file(folder, first=TABULAR)
    found = inference(state, "doctor", "--deployment", str(path))
    assert found.returncode == 1
    assert "cdk bootstrap" in found.stdout
    bootstrap()
    found = inference(state, "doctor", "--deployment", str(path))
    assert found.returncode == 0, found.stdout + found.stderr


def remove_from_the_file(folder: Path, settings: dict[str, Any]) -> "subprocess.CompletedProcess[str]":
    return deploy(deployment_file(folder, first=settings))


def destroy_its_stack(folder: Path, settings: dict[str, Any]) -> "subprocess.CompletedProcess[str]":
    del settings
    return cdk("destroy", "Pair-Second", "--force", "--app", str(folder / "cdk.out"))


@pytest.mark.parametrize(
    ("settings", "remove"),
    [(TABULAR, remove_from_the_file), pytest.param(ENCODER, destroy_its_stack, marks=needs_vnni)],
    ids=["tabular, removed from the file", "encoder, destroyed"],
)
def test_a_second_workload_comes_and_goes_next_to_the_first(
    account: LocalAccount,
    folder: Path,
    settings: dict[str, Any],
    remove: Callable[[Path, dict[str, Any]], "subprocess.CompletedProcess[str]"],
) -> None:
    del account
    kind = settings["kind"]
    bring_up(deployment_file(folder, first=settings))
    before = served("first", kind)
    both = deployment_file(folder, first=settings, second=settings)
    done = deploy(both)
    assert done.returncode == 0, done.stderr[-3000:]
    assert served("second", kind)[0] != before[0]
    assert served("first", kind) == before
    done = remove(folder, settings)
    assert done.returncode == 0, done.stderr[-3000:]
    assert served("first", kind) == before
    with pytest.raises(ClientError, match="Endpoint pair-second-only of account"):
        served("second", kind)
    stacks = {each["StackName"] for each in boto3.client("cloudformation").describe_stacks()["Stacks"]}
    assert "Pair-Second" not in stacks
    dashboards = boto3.client("cloudwatch").list_dashboards()["DashboardEntries"]
    assert {each["DashboardName"] for each in dashboards} == {"pair-first", "pair-overview"}
    assert destroy(both).returncode == 0
    assert_nothing_is_deployed()
