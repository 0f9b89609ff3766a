"""tabular through the local account: two sizes of one multi-model endpoint, in this order."""

import contextlib
import csv
import io
import os
import shutil
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import boto3
import httpx
import pytest
from botocore.exceptions import ClientError
from PIL import Image

from commands.demo.tabular import TOLERANCE, ask_all
from containers.tabular.features import archive_name
from load_tests.closed_loop import Target
from load_tests.cloudwatch import INSTANCES, SAGEMAKER, read_model_cache, totals
from load_tests.deployed import list_objects, read_object, stack_outputs
from load_tests.payloads import tabular
from load_tests.result import LoadResult
from local_aws.account import ACCOUNT_ID, LocalAccount
from model_build.tabular.generate import generate
from model_build.tabular.recipe import GeneratedSource
from stacks.settings.deployment import Deployment
from tests.end_to_end.tabular_deployment import (
    LARGE,
    ROW,
    SAMPLE_BUCKET,
    SAMPLE_KEY,
    SCALED,
    SMALL,
    ask,
    deployment_file,
    get,
    instances,
    put,
)
from tests.local_account import (
    INFERENCE,
    assert_every_metric_on_the_dashboards_was_measured,
    assert_nothing_is_deployed,
    bring_up,
    destroy,
    endpoint_status,
    inference,
    replica_pids,
    runtime,
    wait_until,
)

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(900)]
# A minute of the alarms' time passes in a second, so that scaling can be watched.
ACCOUNT_ENVIRONMENT = {"INFERENCE_LOCAL_TIME_SCALE": "60"}


@pytest.fixture(scope="module", autouse=True)
def deployed(account: LocalAccount, folder: Path) -> Iterator[None]:  # noqa: ARG001 - needs a running account
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket=SAMPLE_BUCKET)
    table = generate(GeneratedSource(customers=1530, seed=3))
    s3.put_object(Bucket=SAMPLE_BUCKET, Key=SAMPLE_KEY, Body=table)
    bring_up(deployment_file(folder))
    yield


@pytest.fixture(scope="module")
def models(deployed: None, folder: Path) -> str:
    """The `s3://` URL that every model is under."""
    del deployed
    return stack_outputs(Deployment.load(folder / "e2e.yaml"), "tabular")["Models"]


@pytest.fixture(scope="module")
def customers(models: str) -> list[tabular.Customer]:
    return tabular.read_customers(read_object(models.removesuffix("models/") + "requests.csv"))


@pytest.mark.parametrize("target", [SMALL, LARGE], ids=["small", "large"])
def test_all_51_models_answer_as_xgboost_does(target: Target, models: str, customers: list[tabular.Customer]) -> None:
    archives = list_objects(models)
    assert len(archives) == 51
    assert ask_all(target, archives, customers) <= TOLERANCE


def test_the_smaller_instance_evicts_and_the_larger_does_not(models: str, customers: list[tabular.Customer]) -> None:
    archives = list_objects(models)
    before = {target: read_model_cache(target) for target in (SMALL, LARGE)}
    for target in (SMALL, LARGE):
        ask_all(target, archives, customers)
    small, large = (read_model_cache(target).since(before[target]) for target in (SMALL, LARGE))
    # 90 % of 8 GiB and of 16 GiB, by 235 MiB a model.
    assert small.loaded.maximum == 31
    assert large.loaded.maximum == 51
    # Asking all in turn is the worst that can happen to a least-recently-used cache: every request misses.
    assert small.hits.average == 0
    assert small.unloads.count == 51
    assert small.waits.average > 0
    assert large.hits.average == 1
    assert large.unloads.count == 0


@pytest.mark.parametrize("requests", ["uniform", "zipf"])
def test_the_working_set_calculator_predicts_what_the_endpoints_do(state: Path, folder: Path, requests: str) -> None:
    done = inference(
        state, "working-set", "tabular", "--deployment", str(folder / "e2e.yaml"), "--requests", requests,
        "--check", "--check-requests", "1000", "--endpoint", "small", "--endpoint", "large",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert "prediction and measurement" in done.stdout


def test_cloudwatch_has_every_metric_that_a_multi_model_endpoint_publishes() -> None:
    with pytest.raises(ClientError):
        ask(SMALL, archive_name("CA"), "1,2,3")
    read_model_cache(SMALL)
    published = {
        (metric["Namespace"], metric["MetricName"])
        for page in boto3.client("cloudwatch").get_paginator("list_metrics").paginate()
        for metric in page["Metrics"]
        if {"Name": "EndpointName", "Value": SMALL.endpoint} in metric["Dimensions"]
        and {"Name": "VariantName", "Value": SMALL.variant} in metric["Dimensions"]
    }
    assert published == {
        (SAGEMAKER, "Invocations"),
        (SAGEMAKER, "InvocationsPerInstance"),
        (SAGEMAKER, "Invocation4XXErrors"),
        (SAGEMAKER, "Invocation5XXErrors"),
        (SAGEMAKER, "ModelLatency"),
        (SAGEMAKER, "OverheadLatency"),
        (SAGEMAKER, "ModelCacheHit"),
        (SAGEMAKER, "ModelLoadingWaitTime"),
        (SAGEMAKER, "ModelDownloadingTime"),
        (SAGEMAKER, "ModelLoadingTime"),
        (SAGEMAKER, "ModelUnloadingTime"),
        (INSTANCES, "LoadedModelCount"),
        (INSTANCES, "CPUUtilization"),
        (INSTANCES, "MemoryUtilization"),
        (INSTANCES, "DiskUtilization"),
    }
    assert totals(SMALL, "Invocation4XXErrors").sum == 1
    assert totals(SMALL, "Invocation5XXErrors").sum == 0


def test_a_state_is_added_by_one_upload(models: str) -> None:
    put(models, "churn-xgb-PR.tar.gz", get(models, archive_name("CA")))
    assert ask(LARGE, "churn-xgb-PR.tar.gz") == ask(LARGE, archive_name("CA"))


def test_a_replaced_archive_is_served_once_the_model_is_loaded_again(models: str) -> None:
    others = [name for name in list_objects(models) if "-GU" not in name][:31]
    put(models, "churn-xgb-GU.tar.gz", get(models, archive_name("CA")))
    old = ask(SMALL, "churn-xgb-GU.tar.gz")
    put(models, "churn-xgb-GU.tar.gz", get(models, archive_name("NY")))
    assert ask(SMALL, "churn-xgb-GU.tar.gz") == old, "a loaded model stays as it is"
    for other in others:
        ask(SMALL, other)
    assert ask(SMALL, "churn-xgb-GU.tar.gz") == ask(SMALL, archive_name("NY")) != old


def archive(**members: bytes | tarfile.TarInfo) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in members.items():
            entry = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            body = b"" if isinstance(content, tarfile.TarInfo) else content
            entry.size = len(body)
            tar.addfile(entry, io.BytesIO(body))
    return packed.getvalue()


def link() -> tarfile.TarInfo:
    entry = tarfile.TarInfo("xgboost-model")
    entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return entry


@pytest.mark.parametrize(
    ("content", "code", "part"),
    [
        (archive(**{"../escaped": b"x"}), "ValidationError", "lies outside of the archive's folder"),
        (archive(**{"/tmp/escaped": b"x"}), "ValidationError", "lies outside of the archive's folder"),
        (archive(model=link()), "ValidationError", "neither a file nor a folder"),
        (b"not an archive", "ValidationError", "not a readable model.tar.gz"),
        (archive(**{"xgboost-model": b"x"})[:-12], "ValidationError", "not a readable model.tar.gz"),
        (archive(**{"xgboost-model": b"\x80\x04."}), "ModelError", "xgboost-model"),
        (archive(one=b"1", two=b"2"), "ModelError", "one model file"),
        (archive(), "ModelError", "it holds nothing"),
    ],
    ids=["parent", "absolute", "link", "text", "cut off", "pickle", "two files", "empty"],
)
def test_a_bad_archive_is_a_clear_error_and_the_others_keep_serving(
    models: str, content: bytes, code: str, part: str
) -> None:
    put(models, "bad.tar.gz", content)
    with pytest.raises(ClientError) as raised:
        ask(LARGE, "bad.tar.gz")
    assert raised.value.response["Error"]["Code"] == code
    assert part in raised.value.response["Error"]["Message"]
    assert 0 < ask(LARGE, archive_name("CA")) < 1
    assert not Path("/tmp/escaped").exists()


@pytest.mark.parametrize(
    ("members", "code", "part"),
    [
        ({"archive": "nope.tar.gz"}, "ValidationError", "Failed to download model data"),
        ({"archive": "../../secret.tar.gz"}, "ValidationError", "must not contain '..'"),
        ({"body": "1,2,3"}, "ModelError", "3 values; send 16"),
        ({"body": "a" + ROW}, "ModelError", "account_length is 'a71'"),
        ({"ContentType": "image/png"}, "ModelError", "415"),
        ({"Accept": "image/png"}, "ModelError", "406"),
    ],
)
def test_a_clients_mistake_is_a_clear_error(members: dict[str, str], code: str, part: str) -> None:
    with pytest.raises(ClientError) as raised:
        ask(LARGE, **{"archive": archive_name("CA"), **members})
    assert raised.value.response["Error"]["Code"] == code
    assert part in raised.value.response["Error"]["Message"]


def test_a_multi_model_endpoint_wants_a_target_model() -> None:
    with pytest.raises(ClientError, match="TargetModel is missing"):
        runtime().invoke_endpoint(EndpointName=LARGE.endpoint, ContentType="text/csv", Body=ROW)


def test_a_killed_replica_comes_back_and_its_models_are_loaded_again(customers: list[tabular.Customer]) -> None:
    (victim,) = replica_pids(LARGE.endpoint, LARGE.variant)
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: replica_pids(LARGE.endpoint, LARGE.variant) not in ([], [victim]), 60, "the restart")
    assert ask_all(LARGE, [archive_name(state) for state in ("CA", "NY", "TX")], customers) <= TOLERANCE


def test_instances_follow_the_load_within_their_bounds(state: Path, folder: Path, tmp_path: Path) -> None:
    (target,) = boto3.client("application-autoscaling").describe_scalable_targets(ServiceNamespace="sagemaker")[
        "ScalableTargets"
    ]
    assert (target["ResourceId"], target["MinCapacity"], target["MaxCapacity"]) == (
        f"endpoint/{SCALED.endpoint}/variant/{SCALED.variant}",
        1,
        2,
    )
    assert instances(SCALED) == 1
    done = inference(
        state, "watch-scaling", "tabular", "--deployment", str(folder / "e2e.yaml"), "--clients", "2",
        "--load-seconds", "60", "--limit-seconds", "180", "--output", str(tmp_path),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "alarms and cooldowns pass 60 times faster" in done.stderr
    written = tmp_path / SCALED.endpoint
    with (written / "moments.csv").open() as file:
        seen = [int(row["current"]) for row in csv.DictReader(file)]
    assert (seen[0], max(seen), seen[-1]) == (1, 2, 1)
    assert (written / "scaling.png").read_bytes().startswith(b"\x89PNG")
    activities = boto3.client("application-autoscaling").describe_scaling_activities(ServiceNamespace="sagemaker")
    told = [activity["Description"] for activity in activities["ScalingActivities"]]
    assert told == ["Setting desired instance count to 1.", "Setting desired instance count to 2."]


def load_on_fargate(state: Path, folder: Path, *options: str) -> list[str]:
    return [
        *INFERENCE, "load-test", "tabular", "--endpoint", "large", "--on", "fargate", "--state", str(state),
        "--deployment", str(folder / "e2e.yaml"), "--workers", "2", "--users", "2", "--warm-up", "1", *options,
    ]  # fmt: skip


def tasks_of_load_tests(status: Literal["RUNNING", "STOPPED"]) -> list[Any]:
    ecs = boto3.client("ecs")
    arns = ecs.list_tasks(cluster="e2e-load-test", desiredStatus=status)["taskArns"]
    return list(ecs.describe_tasks(cluster="e2e-load-test", tasks=arns)["tasks"]) if arns else []


def test_a_load_test_on_fargate_leaves_its_result_and_no_task(state: Path, folder: Path, tmp_path: Path) -> None:
    command = load_on_fargate(state, folder, "--duration", "3", "--json", str(tmp_path / "result.json"))
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    result = LoadResult.read(tmp_path / "result.json")
    assert (result.passed, result.location, len(result.workers), result.workers_lost) == (True, "local", 2, 0)
    assert result.total.answered > 0
    assert "3 tasks used" in done.stderr and "which on Fargate would cost $" in done.stderr
    url = stack_outputs(Deployment.load(folder / "e2e.yaml"), "load_test")["Results"]
    assert {key.rpartition("/")[2] for key in list_objects(url)} == {"plan.json", "feed.jsonl", "result.json"}
    assert tasks_of_load_tests("RUNNING") == []
    ended = tasks_of_load_tests("STOPPED")
    assert sorted(task["capacityProviderName"] for task in ended) == ["FARGATE", "FARGATE_SPOT", "FARGATE_SPOT"]
    assert {task["containers"][0]["exitCode"] for task in ended} == {0}
    assert {task["stopCode"] for task in ended} == {"EssentialContainerExited"}


def test_a_load_test_on_fargate_that_is_ended_stops_its_tasks(state: Path, folder: Path, tmp_path: Path) -> None:
    before = {task["taskArn"] for task in tasks_of_load_tests("STOPPED")}
    with subprocess.Popen(load_on_fargate(state, folder, "--duration", "300"), cwd=tmp_path) as running:
        wait_until(
            lambda: [task["lastStatus"] for task in tasks_of_load_tests("RUNNING")] == ["RUNNING"] * 3, 60, "the start"
        )
        running.terminate()
        assert running.wait(60) == 130
    assert tasks_of_load_tests("RUNNING") == []
    ended = [task for task in tasks_of_load_tests("STOPPED") if task["taskArn"] not in before]
    assert {(task["stopCode"], task["stoppedReason"]) for task in ended} == {("UserInitiated", "the load test is over")}
    # 143 is SIGTERM: none had to be killed.
    assert {task["containers"][0]["exitCode"] for task in ended} == {143}


def test_what_containers_print_is_in_cloudwatch_logs_with_an_end_to_its_retention() -> None:
    logs = boto3.client("logs")
    name = f"/aws/sagemaker/Endpoints/{SMALL.endpoint}"
    (group,) = logs.describe_log_groups(logGroupNamePrefix=name)["logGroups"]
    assert group["retentionInDays"] == 30

    def told() -> str:
        return " ".join(event["message"] for event in logs.filter_log_events(logGroupName=name)["events"])

    wait_until(lambda: "ml.c5.xlarge runs on this machine" in told() and "ready" in told(), 30, "the logs' arrival")


def test_the_budget_is_there() -> None:
    (budget,) = boto3.client("budgets").describe_budgets(AccountId=ACCOUNT_ID)["Budgets"]
    assert (budget["BudgetName"], float(budget["BudgetLimit"]["Amount"])) == ("e2e-monthly", 100)


def test_the_builtin_container_is_refused_here_with_the_reason(models: str) -> None:
    sagemaker = boto3.client("sagemaker")
    image = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:3.0-5"
    sagemaker.create_model(
        ModelName="builtin",
        PrimaryContainer={"Image": image, "Mode": "MultiModel", "ModelDataUrl": models},
        ExecutionRoleArn="arn:aws:iam::000000000000:role/any",
    )
    sagemaker.create_endpoint_config(
        EndpointConfigName="builtin",
        ProductionVariants=[
            {
                "VariantName": "AllTraffic",
                "ModelName": "builtin",
                "InstanceType": "ml.c5.xlarge",
                "InitialInstanceCount": 1,
            }
        ],
    )
    sagemaker.create_endpoint(EndpointName="builtin", EndpointConfigName="builtin")
    try:
        wait_until(
            lambda: sagemaker.describe_endpoint(EndpointName="builtin")["EndpointStatus"] == "Failed", 30, "the failure"
        )
        reason = sagemaker.describe_endpoint(EndpointName="builtin")["FailureReason"]
        assert f"the image {image} was not pushed to this account" in reason
    finally:
        sagemaker.delete_endpoint(EndpointName="builtin")
        sagemaker.delete_endpoint_config(EndpointConfigName="builtin")
        sagemaker.delete_model(ModelName="builtin")


def test_every_metric_on_the_dashboards_was_measured() -> None:
    assert_every_metric_on_the_dashboards_was_measured()


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextlib.contextmanager
def dashboard_page(state: Path) -> Iterator[str]:
    with subprocess.Popen(
        [*INFERENCE, "local", "dashboard", "--state", str(state)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.send_signal(signal.SIGINT)


def test_the_dashboard_page_has_the_data_of_what_was_deployed(state: Path) -> None:
    with dashboard_page(state) as url, httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
        assert client.get("/dashboards").json() == {"dashboards": ["e2e-overview", "e2e-tabular"]}
        drawn = client.get("/dashboards/e2e-tabular?minutes=60").json()
        latest = next(each for each in drawn["widgets"] if "large AllTraffic: latest values" in each.get("title", ""))
        values = {line["label"]: line["points"] for line in latest["lines"]}
        assert values["requests a minute"][0][1] > 0
        assert values["loaded models"][-1][1] > 0
        assert all(line["note"] == "" for each in drawn["widgets"] for line in each.get("lines", []))
        assert client.get("/dashboards/other").json()["error"].startswith("no dashboard 'other'")
        assert client.get("/dashboards/e2e-overview?minutes=x").status_code == 400


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium")
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(1400, 900), (390, 844)], ids=["desk", "phone"])
def test_the_dashboard_page_is_drawn_in_a_browser(
    state: Path, tmp_path: Path, theme: str, width: int, height: int
) -> None:
    picture = tmp_path / "page.png"
    with dashboard_page(state) as url:
        done = subprocess.run(
            [
                str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
                f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},{height}",
                "--virtual-time-budget=6000", f"--screenshot={picture}", "--dump-dom",
                f"{url}?theme={theme}&minutes=60#e2e-tabular",
            ],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    assert 'data-ready="true"' in done.stdout, done.stdout[-2000:] + done.stderr[-2000:]
    assert "e2e-tabular-large AllTraffic: ModelLatency" in done.stdout
    assert "<canvas" in done.stdout
    with Image.open(picture) as page:
        assert page.size == (width, height)
        corner = page.convert("L").getpixel((width - 2, height - 2))
        assert isinstance(corner, int)
        assert (corner > 128) == (theme == "light")
        assert len(page.convert("RGB").getcolors(1 << 24) or []) > 100, "a page with graphs has many colours"


def test_destroy_leaves_nothing_of_the_deployment(folder: Path) -> None:
    assert len(endpoint_status()) == 3
    done = destroy(deployment_file(folder))
    assert done.returncode == 0, done.stderr[-3000:]
    assert_nothing_is_deployed()
    assert boto3.client("ecs").list_clusters()["clusterArns"] == []
    ec2 = boto3.client("ec2")
    assert (ec2.describe_vpc_endpoints()["VpcEndpoints"], ec2.describe_flow_logs()["FlowLogs"]) == ([], [])
    assert [vpc["IsDefault"] for vpc in ec2.describe_vpcs()["Vpcs"]] == [True]
    assert [bucket["Name"] for bucket in boto3.client("s3").list_buckets()["Buckets"]][1:] == [SAMPLE_BUCKET]
