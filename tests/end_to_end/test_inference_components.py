"""Inference components through boto3: an endpoint without a model, copies that come and go, down to none and back."""

import io
import json
import os
import signal
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from botocore.exceptions import BotoCoreError, ClientError

from load_tests.signed_requests import SignedRequests
from local_aws.account import ACCOUNT_ID, REGION, LocalAccount
from local_aws.hosting.images import Image
from tests.local_account import endpoint_status, replica_pids, runtime, wait_until

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(300)]
ACCOUNT_ENVIRONMENT = {"INFERENCE_LOCAL_TIME_SCALE": "60"}
ENDPOINT, COMPONENT, VARIANT = "asleep", "echo", "AllTraffic"
ROLE = f"arn:aws:iam::{ACCOUNT_ID}:role/any"
SERVER = """
import json, os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

model = Path(os.environ["SAGEMAKER_BASE_DIR"], "model/name.txt").read_text()

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        memory = int(os.environ["CONTAINER_MEMORY_LIMIT_BYTES"])
        body = json.dumps({"model": model, "memory": memory, "pid": os.getpid()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer

print("serving", model, flush=True)
ThreadingHTTPServer(("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Handler).serve_forever()
"""


def archive(name: str) -> bytes:
    """A model.tar.gz whose one file is the name that the server answers with."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        member = tarfile.TarInfo("name.txt")
        member.size = len(name)
        tar.addfile(member, io.BytesIO(name.encode()))
    return content.getvalue()


def make_model(name: str) -> None:
    boto3.client("s3").put_object(Bucket="components", Key=f"{name}/model.tar.gz", Body=archive(name))
    boto3.client("sagemaker").create_model(
        ModelName=name,
        ExecutionRoleArn=ROLE,
        PrimaryContainer={
            "Image": f"{ACCOUNT_ID}.dkr.ecr.{REGION}.amazonaws.com/tiny:1",
            "ModelDataUrl": f"s3://components/{name}/model.tar.gz",
        },
    )


def specification(model: str, **reserved: Any) -> Any:
    wanted = {"NumberOfCpuCoresRequired": 1, "MinMemoryRequiredInMb": 1024, **reserved}
    return {"ModelName": model, "ComputeResourceRequirements": wanted}


def set_copies(count: int) -> None:
    boto3.client("sagemaker").update_inference_component_runtime_config(
        InferenceComponentName=COMPONENT, DesiredRuntimeConfig={"CopyCount": count}
    )
    wait_until(lambda: described()["InferenceComponentStatus"] == "InService", 30, "the change of copies")


def described(name: str = COMPONENT) -> Any:
    return boto3.client("sagemaker").describe_inference_component(InferenceComponentName=name)


def instances() -> tuple[int, int]:
    (variant,) = boto3.client("sagemaker").describe_endpoint(EndpointName=ENDPOINT)["ProductionVariants"]
    return variant["CurrentInstanceCount"], variant["DesiredInstanceCount"]


def invoke(**members: str) -> dict[str, Any]:
    arguments = {"EndpointName": ENDPOINT, "InferenceComponentName": COMPONENT, **members}
    given: Any = {name: value for name, value in arguments.items() if value}
    answer: dict[str, Any] = json.loads(runtime().invoke_endpoint(Body=b"{}", **given)["Body"].read())
    return answer


def refused(**members: str) -> str:
    with pytest.raises(ClientError) as raised:
        invoke(**members)
    assert raised.value.response["Error"]["Code"] == "ValidationError"
    return raised.value.response["Error"]["Message"]


@pytest.fixture(scope="module", autouse=True)
def endpoint(account: LocalAccount, state: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:  # noqa: ARG001 - needs a running account
    """An endpoint of up to two instances without a model, and models of an image that is one small script."""
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "server.py").write_text(SERVER)
    Image(str(folder), "/", (sys.executable, str(folder / "server.py")), {}, sys.prefix).save(state, "tiny:1")
    boto3.client("s3").create_bucket(Bucket="components")
    make_model("first")
    sagemaker = boto3.client("sagemaker")
    sagemaker.create_endpoint_config(
        EndpointConfigName="empty",
        ExecutionRoleArn=ROLE,
        ProductionVariants=[
            {
                "VariantName": VARIANT,
                "InstanceType": "ml.c6i.large",
                "InitialInstanceCount": 1,
                "ManagedInstanceScaling": {"Status": "ENABLED", "MinInstanceCount": 0, "MaxInstanceCount": 2},
                "RoutingConfig": {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"},
            }
        ],
    )
    sagemaker.create_endpoint(EndpointName=ENDPOINT, EndpointConfigName="empty")
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=ENDPOINT, WaiterConfig={"Delay": 1})
    yield


@pytest.mark.parametrize(
    ("members", "variant", "part"),
    [
        ({}, {}, "ExecutionRoleArn is missing"),
        (
            {"ExecutionRoleArn": ROLE},
            {"ModelName": "first", "ManagedInstanceScaling": {"Status": "ENABLED", "MinInstanceCount": 0}},
            "ManagedInstanceScaling is only supported for inference component endpoints",
        ),
    ],
)
def test_a_configuration_that_sagemaker_refuses_is_refused(
    members: dict[str, Any], variant: dict[str, Any], part: str
) -> None:
    variants: Any = [{"VariantName": VARIANT, "InstanceType": "ml.c6i.large", "InitialInstanceCount": 1, **variant}]
    with pytest.raises(ClientError, match=part):
        boto3.client("sagemaker").create_endpoint_config(
            EndpointConfigName="refused", ProductionVariants=variants, **members
        )


def test_an_endpoint_of_components_is_in_service_before_it_has_one_and_wants_its_name() -> None:
    assert instances() == (0, 0)
    assert refused(InferenceComponentName="").startswith("Inference Component Name header is required")
    assert "Inference component echo was not found" in refused()


def test_a_component_is_in_service_once_its_copies_answer_and_they_have_the_memory_they_reserve() -> None:
    sagemaker = boto3.client("sagemaker")
    sagemaker.create_inference_component(
        InferenceComponentName=COMPONENT,
        EndpointName=ENDPOINT,
        VariantName=VARIANT,
        Specification=specification("first"),
        RuntimeConfig={"CopyCount": 1},
    )
    wait_until(lambda: described()["InferenceComponentStatus"] == "InService", 30, "the component")
    assert described()["RuntimeConfig"] == {"DesiredCopyCount": 1, "CurrentCopyCount": 1}
    answer = invoke()
    assert (answer["model"], answer["memory"]) == ("first", 1024 * 2**20)
    assert instances() == (1, 1)
    (listed,) = sagemaker.list_inference_components(EndpointNameEquals=ENDPOINT, StatusEquals="InService")[
        "InferenceComponents"
    ]
    assert (listed["InferenceComponentName"], listed["VariantName"]) == (COMPONENT, VARIANT)
    assert sagemaker.list_inference_components(StatusEquals="Failed")["InferenceComponents"] == []


def test_copies_are_processes_on_as_many_instances_as_they_need() -> None:
    set_copies(3)
    assert len(set(replica_pids(ENDPOINT, COMPONENT))) == 3
    assert instances() == (2, 2)
    with pytest.raises(ClientError, match=r"they need 3 instances of ml\.c6i\.large, and the limit is 2"):
        set_copies(5)
    assert described()["RuntimeConfig"]["DesiredCopyCount"] == 3


def test_without_copies_a_request_is_refused_until_there_is_one_again() -> None:
    pids = replica_pids(ENDPOINT, COMPONENT)
    set_copies(0)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert instances() == (0, 0)
    assert refused().startswith("Inference Component has no capacity to process this request.")
    set_copies(1)
    assert invoke()["model"] == "first"


def test_an_update_of_the_model_leaves_no_request_without_an_answer() -> None:
    make_model("second")
    boto3.client("sagemaker").update_inference_component(
        InferenceComponentName=COMPONENT, Specification=specification("second", MaxMemoryRequiredInMb=2048)
    )
    models = set()

    def switched() -> bool:
        model = invoke()["model"]
        models.add(model)
        return bool(model == "second")

    wait_until(switched, 30, "the second model")
    assert models <= {"first", "second"}
    assert invoke()["memory"] == 2048 * 2**20


@pytest.mark.parametrize(
    ("wanted", "part"),
    [
        (specification("first", NumberOfCpuCoresRequired=3), "a copy does not fit on ml.c6i.large"),
        (specification("nope"), "Could not find model"),
    ],
)
def test_a_component_that_cannot_be_is_refused(wanted: Any, part: str) -> None:
    with pytest.raises(ClientError, match=part):
        boto3.client("sagemaker").create_inference_component(
            InferenceComponentName="other",
            EndpointName=ENDPOINT,
            Specification=wanted,
            RuntimeConfig={"CopyCount": 1},
        )


def test_a_component_whose_container_ends_has_failed_with_the_containers_last_words() -> None:
    make_model("broken")
    boto3.client("s3").put_object(Bucket="components", Key="broken/model.tar.gz", Body=b"no archive")
    sagemaker = boto3.client("sagemaker")
    sagemaker.create_inference_component(
        InferenceComponentName="broken",
        EndpointName=ENDPOINT,
        Specification=specification("broken"),
        RuntimeConfig={"CopyCount": 1},
    )
    wait_until(lambda: described("broken")["InferenceComponentStatus"] == "Failed", 30, "the failure")
    assert "is not a readable model.tar.gz" in described("broken")["FailureReason"]
    sagemaker.delete_inference_component(InferenceComponentName="broken")
    wait_until(
        lambda: len(sagemaker.list_inference_components()["InferenceComponents"]) == 1, 10, "the component's removal"
    )


def test_scaling_goes_to_zero_and_the_first_refused_request_brings_a_copy_back() -> None:
    scaling, resource = boto3.client("application-autoscaling"), f"inference-component/{COMPONENT}"
    scaled: Any = {
        "ServiceNamespace": "sagemaker",
        "ResourceId": resource,
        "ScalableDimension": "sagemaker:inference-component:DesiredCopyCount",
    }
    scaling.register_scalable_target(**scaled, MinCapacity=0, MaxCapacity=2)
    scaling.put_scaling_policy(
        **scaled,
        PolicyName="follow",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration={
            "TargetValue": 600,
            "ScaleInCooldown": 60,
            "PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerInferenceComponentInvocationsPerCopy"},
        },
    )
    wake = scaling.put_scaling_policy(
        **scaled,
        PolicyName="from-zero",
        PolicyType="StepScaling",
        StepScalingPolicyConfiguration={
            "AdjustmentType": "ChangeInCapacity",
            "Cooldown": 60,
            "StepAdjustments": [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}],
        },
    )["PolicyARN"]
    boto3.client("cloudwatch").put_metric_alarm(
        AlarmName="from-zero",
        AlarmActions=[wake],
        Namespace="AWS/SageMaker",
        MetricName="NoCapacityInvocationFailures",
        Dimensions=[{"Name": "InferenceComponentName", "Value": COMPONENT}],
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanOrEqualToThreshold",
    )
    pids = replica_pids(ENDPOINT, COMPONENT)
    wait_until(lambda: instances() == (0, 0), 60, "the way to zero")
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), 30, "the end of the copies' processes")
    refusals = [refused()]

    def answers() -> bool:
        try:
            return bool(invoke())
        except ClientError as error:
            refusals.append(str(error))
            return False

    wait_until(answers, 60, "the first copy")
    assert all("has no capacity to process this request" in refusal for refusal in refusals)
    causes = [each["Cause"] for each in scaling.describe_scaling_activities(**scaled)["ScalingActivities"]]
    assert [cause.split(":")[0] for cause in causes[:2]] == ["policy from-zero", "policy follow"]
    url = f"{os.environ['AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME']}/_local/publish"
    httpx.post(url, auth=SignedRequests(os.environ), trust_env=False, timeout=30)
    published = boto3.client("cloudwatch").list_metrics(
        Namespace="AWS/SageMaker", Dimensions=[{"Name": "InferenceComponentName", "Value": COMPONENT}]
    )["Metrics"]
    names = {metric["MetricName"] for metric in published}
    assert {"NoCapacityInvocationFailures", "InvocationsPerCopy", "ModelLatency"} <= names
    scaling.deregister_scalable_target(**scaled)


def template(model: str, copies: int = 1) -> str:
    """One more component on the endpoint, with its scalable target."""
    resources = {
        "Component": {
            "Type": "AWS::SageMaker::InferenceComponent",
            "Properties": {
                "InferenceComponentName": "stacked",
                "EndpointName": ENDPOINT,
                "VariantName": VARIANT,
                "Specification": specification(model, NumberOfCpuCoresRequired=0.5),
                "RuntimeConfig": {"CopyCount": copies},
                "Tags": [{"Key": "environment", "Value": "e2e"}],
                "DeploymentConfig": {
                    "RollingUpdatePolicy": {
                        "MaximumBatchSize": {"Type": "COPY_COUNT", "Value": 1},
                        "WaitIntervalInSeconds": 0,
                    }
                },
            },
        },
        "Target": {
            "Type": "AWS::ApplicationAutoScaling::ScalableTarget",
            "DependsOn": "Component",
            "Properties": {
                "ServiceNamespace": "sagemaker",
                "ScalableDimension": "sagemaker:inference-component:DesiredCopyCount",
                "ResourceId": "inference-component/stacked",
                "MinCapacity": 0,
                "MaxCapacity": 2,
            },
        },
    }
    outputs = {"Status": {"Value": {"Fn::GetAtt": ["Component", "InferenceComponentStatus"]}}}
    return json.dumps({"Resources": resources, "Outputs": outputs})


def settled(stack: str = "stacked") -> Any:
    client = boto3.client("cloudformation")
    found: list[Any] = []

    def done() -> bool:
        found[:] = client.describe_stacks(StackName=stack)["Stacks"]
        return not found[0]["StackStatus"].endswith("IN_PROGRESS")

    wait_until(done, 60, "the stack's end")
    return found[0]


def test_cloudformation_makes_updates_rolls_back_and_removes_a_component() -> None:
    client = boto3.client("cloudformation")
    client.create_stack(StackName="stacked", TemplateBody=template("first"))
    made = settled()
    assert (made["StackStatus"], made["Outputs"][0]["OutputValue"]) == ("CREATE_COMPLETE", "InService")
    assert invoke(InferenceComponentName="stacked")["model"] == "first"
    boto3.client("sagemaker").update_inference_component_runtime_config(
        InferenceComponentName="stacked", DesiredRuntimeConfig={"CopyCount": 2}
    )
    client.update_stack(StackName="stacked", TemplateBody=template("second"))
    assert settled()["StackStatus"] == "UPDATE_COMPLETE"
    assert invoke(InferenceComponentName="stacked")["model"] == "second"
    assert described("stacked")["RuntimeConfig"]["DesiredCopyCount"] == 2
    client.update_stack(StackName="stacked", TemplateBody=template("broken"))
    assert settled()["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    assert invoke(InferenceComponentName="stacked")["model"] == "second"
    arn = described("stacked")["InferenceComponentArn"]
    assert boto3.client("sagemaker").list_tags(ResourceArn=arn)["Tags"][0] == {"Key": "environment", "Value": "e2e"}
    client.delete_stack(StackName="stacked")
    names = boto3.client("sagemaker").list_inference_components
    wait_until(
        lambda: [each["InferenceComponentName"] for each in names()["InferenceComponents"]] == [COMPONENT],
        30,
        "the component's removal",
    )


def test_copies_move_when_the_endpoint_gets_other_instances() -> None:
    sagemaker = boto3.client("sagemaker")
    config = sagemaker.describe_endpoint_config(EndpointConfigName="empty")
    larger: Any = [{**variant, "InstanceType": "ml.c5.xlarge"} for variant in config["ProductionVariants"]]
    sagemaker.create_endpoint_config(EndpointConfigName="larger", ExecutionRoleArn=ROLE, ProductionVariants=larger)
    before = replica_pids(ENDPOINT, COMPONENT)
    sagemaker.update_endpoint(EndpointName=ENDPOINT, EndpointConfigName="larger")
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=ENDPOINT, WaiterConfig={"Delay": 1})
    assert invoke()["pid"] in set(replica_pids(ENDPOINT, COMPONENT)) - set(before)
    sagemaker.create_endpoint_config(
        EndpointConfigName="with-model",
        ProductionVariants=[
            {"VariantName": VARIANT, "InstanceType": "ml.c5.xlarge", "InitialInstanceCount": 1, "ModelName": "first"}
        ],
    )
    with pytest.raises(ClientError, match="with inference components to a configuration whose variants name models"):
        sagemaker.update_endpoint(EndpointName=ENDPOINT, EndpointConfigName="with-model")


def test_copies_log_where_sagemaker_puts_it() -> None:
    logs = boto3.client("logs")

    def groups() -> list[str]:
        return [group["logGroupName"] for group in logs.describe_log_groups()["logGroups"]]

    wait_until(lambda: f"/aws/sagemaker/InferenceComponents/{COMPONENT}" in groups(), 10, "the log group")
    assert f"/aws/sagemaker/Endpoints/{ENDPOINT}" not in groups()


@pytest.mark.usefixtures("account")
def test_copies_come_back_after_the_hosting_process_has_died(state: Path) -> None:
    (hosting,) = (row for row in json.loads((state / "processes.json").read_text()) if row["name"] == "hosting")
    os.kill(hosting["pid"], signal.SIGKILL)

    def answers() -> bool:
        try:
            return bool(invoke()["model"] == "second")
        except (ClientError, BotoCoreError):
            return False

    wait_until(answers, 60, "the restart")
    assert described()["Specification"]["ModelName"] == "second"


def test_an_endpoint_goes_after_its_components_and_leaves_nothing() -> None:
    sagemaker = boto3.client("sagemaker")
    with pytest.raises(ClientError, match="with inference components: delete echo first"):
        sagemaker.delete_endpoint(EndpointName=ENDPOINT)
    pids = replica_pids(ENDPOINT, COMPONENT)
    sagemaker.delete_inference_component(InferenceComponentName=COMPONENT)
    wait_until(lambda: sagemaker.list_inference_components()["InferenceComponents"] == [], 30, "the removal")
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    sagemaker.delete_endpoint(EndpointName=ENDPOINT)
    wait_until(lambda: endpoint_status() == [], 30, "the endpoint's removal")
