"""A stack that would create a resource under a name that exists is refused with AWS's error, and changes nothing."""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from local_aws.account import ACCOUNT_ID, REGION, LocalAccount
from local_aws.emulator.creations import Creation
from local_aws.hosting.images import Image
from tests.local_account import restart_emulator, wait_until

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(300)]
TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}
ALARM = {
    "AlarmName": "taken", "Namespace": "N", "MetricName": "M", "Period": 60, "EvaluationPeriods": 1, "Threshold": 1.0,
    "ComparisonOperator": "GreaterThanThreshold", "Statistic": "Sum",
}  # fmt: skip
BODY = json.dumps({"widgets": []})
BUDGET = {
    "BudgetName": "taken",
    "BudgetType": "COST",
    "TimeUnit": "MONTHLY",
    "BudgetLimit": {"Amount": 5, "Unit": "USD"},
}
STATES = json.dumps({"StartAt": "Done", "States": {"Done": {"Type": "Succeed"}}})
ROLE = f"arn:aws:iam::{ACCOUNT_ID}:role/none"


@pytest.fixture(autouse=True)
def running(account: LocalAccount) -> LocalAccount:
    return account


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of resource that a client and a template can name alike: with `taken`."""

    type: str
    properties: Mapping[str, Any]
    create: Callable[[], object]
    describe: Callable[[], Any]
    delete: Callable[[], object]
    message: str


def client(service: str) -> Any:
    return boto3.client(service)  # type: ignore[call-overload]  # the stubs know each service by its literal


def usual(kind: str, id: str = "taken") -> str:
    return f"Resource of type '{kind}' with identifier '{id}' already exists."


KINDS = [
    Kind(
        "AWS::Logs::LogGroup",
        {"LogGroupName": "taken", "RetentionInDays": 7},
        lambda: client("logs").create_log_group(logGroupName="taken", tags={"of": "client"}),
        lambda: client("logs").describe_log_groups(logGroupNamePrefix="taken")["logGroups"],
        lambda: client("logs").delete_log_group(logGroupName="taken"),
        usual("AWS::Logs::LogGroup", '{"/properties/LogGroupName":"taken"}'),
    ),
    Kind(
        "AWS::SNS::Topic",
        {"TopicName": "taken"},
        lambda: client("sns").create_topic(Name="taken", Attributes={"DisplayName": "of a client"}),
        lambda: client("sns").get_topic_attributes(TopicArn=f"arn:aws:sns:{REGION}:{ACCOUNT_ID}:taken")["Attributes"],
        lambda: client("sns").delete_topic(TopicArn=f"arn:aws:sns:{REGION}:{ACCOUNT_ID}:taken"),
        "taken already exists",
    ),
    Kind(
        "AWS::CloudWatch::Alarm",
        ALARM,
        lambda: client("cloudwatch").put_metric_alarm(**{**ALARM, "Threshold": 9.0}),
        lambda: [each["Threshold"] for each in client("cloudwatch").describe_alarms()["MetricAlarms"]],
        lambda: client("cloudwatch").delete_alarms(AlarmNames=["taken"]),
        usual("AWS::CloudWatch::Alarm"),
    ),
    Kind(
        "AWS::CloudWatch::CompositeAlarm",
        {"AlarmName": "taken", "AlarmRule": "FALSE"},
        lambda: client("cloudwatch").put_metric_alarm(**ALARM),
        lambda: [each["AlarmName"] for each in client("cloudwatch").describe_alarms()["MetricAlarms"]],
        lambda: client("cloudwatch").delete_alarms(AlarmNames=["taken"]),
        usual("AWS::CloudWatch::CompositeAlarm"),
    ),
    Kind(
        "AWS::CloudWatch::Dashboard",
        {"DashboardName": "taken", "DashboardBody": BODY},
        lambda: client("cloudwatch").put_dashboard(DashboardName="taken", DashboardBody=f"{BODY} "),
        lambda: client("cloudwatch").get_dashboard(DashboardName="taken")["DashboardBody"],
        lambda: client("cloudwatch").delete_dashboards(DashboardNames=["taken"]),
        "Dashboard 'taken' already exists",
    ),
    Kind(
        "AWS::IAM::Role",
        {"RoleName": "taken", "AssumeRolePolicyDocument": TRUST},
        lambda: client("iam").create_role(RoleName="taken", AssumeRolePolicyDocument=json.dumps(TRUST)),
        lambda: client("iam").get_role(RoleName="taken")["Role"]["RoleId"],
        lambda: client("iam").delete_role(RoleName="taken"),
        usual("AWS::IAM::Role"),
    ),
    Kind(
        "AWS::CodeBuild::Project",
        {
            "Name": "taken", "ServiceRole": ROLE, "Artifacts": {"Type": "NO_ARTIFACTS"},
            "Source": {"Type": "NO_SOURCE"},
            "Environment": {"Type": "LINUX_CONTAINER", "Image": "i", "ComputeType": "BUILD_GENERAL1_SMALL"},
        },
        lambda: client("codebuild").create_project(
            name="taken", serviceRole=ROLE, description="of a client", artifacts={"type": "NO_ARTIFACTS"},
            source={"type": "NO_SOURCE", "buildspec": "version: 0.2"},
            environment={"type": "LINUX_CONTAINER", "image": "i", "computeType": "BUILD_GENERAL1_SMALL"},
        ),
        lambda: client("codebuild").batch_get_projects(names=["taken"])["projects"][0]["description"],
        lambda: client("codebuild").delete_project(name="taken"),
        f"Project already exists: arn:aws:codebuild:{REGION}:{ACCOUNT_ID}:project/taken",
    ),
    Kind(
        "AWS::ECS::Cluster",
        {"ClusterName": "taken"},
        lambda: client("ecs").create_cluster(clusterName="taken", tags=[{"key": "of", "value": "client"}]),
        lambda: client("ecs").describe_clusters(clusters=["taken"], include=["TAGS"])["clusters"][0]["tags"],
        lambda: client("ecs").delete_cluster(cluster="taken"),
        usual("AWS::ECS::Cluster"),
    ),
    Kind(
        "AWS::ECR::Repository",
        {"RepositoryName": "taken"},
        lambda: client("ecr").create_repository(repositoryName="taken", imageTagMutability="IMMUTABLE"),
        lambda: client("ecr").describe_repositories()["repositories"][0]["imageTagMutability"],
        lambda: client("ecr").delete_repository(repositoryName="taken"),
        usual("AWS::ECR::Repository"),
    ),
    Kind(
        "AWS::SSM::Parameter",
        {"Name": "taken", "Type": "String", "Value": "of a stack"},
        lambda: client("ssm").put_parameter(Name="taken", Type="String", Value="of a client"),
        lambda: client("ssm").get_parameter(Name="taken")["Parameter"]["Value"],
        lambda: client("ssm").delete_parameter(Name="taken"),
        usual("AWS::SSM::Parameter"),
    ),
    Kind(
        "AWS::SecretsManager::Secret",
        {"Name": "taken", "SecretString": "of a stack"},
        lambda: client("secretsmanager").create_secret(Name="taken", SecretString="of a client"),
        lambda: client("secretsmanager").get_secret_value(SecretId="taken")["SecretString"],
        lambda: client("secretsmanager").delete_secret(SecretId="taken", ForceDeleteWithoutRecovery=True),
        "The operation failed because the secret taken already exists.",
    ),
    Kind(
        "AWS::StepFunctions::StateMachine",
        {"StateMachineName": "taken", "RoleArn": ROLE, "DefinitionString": STATES},
        lambda: client("stepfunctions").create_state_machine(name="taken", roleArn=f"{ROLE}2", definition=STATES),
        lambda: client("stepfunctions").describe_state_machine(
            stateMachineArn=f"arn:aws:states:{REGION}:{ACCOUNT_ID}:stateMachine:taken"
        )["roleArn"],
        lambda: client("stepfunctions").delete_state_machine(
            stateMachineArn=f"arn:aws:states:{REGION}:{ACCOUNT_ID}:stateMachine:taken"
        ),
        usual("AWS::StepFunctions::StateMachine", f"arn:aws:states:{REGION}:{ACCOUNT_ID}:stateMachine:taken"),
    ),
    Kind(
        "AWS::Budgets::Budget",
        {"Budget": BUDGET},
        lambda: client("budgets").create_budget(
            AccountId=ACCOUNT_ID, Budget={**BUDGET, "BudgetLimit": {"Amount": "9", "Unit": "USD"}}
        ),
        lambda: client("budgets").describe_budget(AccountId=ACCOUNT_ID, BudgetName="taken")["Budget"]["BudgetLimit"],
        lambda: client("budgets").delete_budget(AccountId=ACCOUNT_ID, BudgetName="taken"),
        "Error creating budget: taken - the budget already exists.",
    ),
    Kind(
        "AWS::Events::Rule",
        {"Name": "taken", "ScheduleExpression": "rate(1 day)"},
        lambda: client("events").put_rule(Name="taken", ScheduleExpression="rate(2 days)"),
        lambda: client("events").describe_rule(Name="taken")["ScheduleExpression"],
        lambda: client("events").delete_rule(Name="taken"),
        usual("AWS::Events::Rule"),
    ),
]  # fmt: skip


def template(**resources: Mapping[str, Any]) -> str:
    """A template with resources by logical ID; each names its type and properties."""
    return json.dumps({"Resources": resources})


def resource(kind: str, **properties: Any) -> dict[str, Any]:
    return {"Type": kind, "Properties": properties}


def outcome(stack: str) -> str:
    """Waits for a stack's operation, and returns its status."""
    cloudformation = boto3.client("cloudformation")

    def status() -> str:
        return str(cloudformation.describe_stacks(StackName=stack)["Stacks"][0]["StackStatus"])

    wait_until(lambda: not status().endswith("_IN_PROGRESS"), 30, "the outcome")
    return status()


def create(stack: str, body: str) -> str:
    boto3.client("cloudformation").create_stack(
        StackName=stack, TemplateBody=body, Capabilities=["CAPABILITY_NAMED_IAM"]
    )
    return outcome(stack)


def update(stack: str, body: str) -> str:
    boto3.client("cloudformation").update_stack(
        StackName=stack, TemplateBody=body, Capabilities=["CAPABILITY_NAMED_IAM"]
    )
    return outcome(stack)


def delete(stack: str) -> None:
    cloudformation = boto3.client("cloudformation")
    cloudformation.delete_stack(StackName=stack)
    cloudformation.get_waiter("stack_delete_complete").wait(StackName=stack, WaiterConfig={"Delay": 1})


def reasons(stack: str) -> list[str]:
    events = boto3.client("cloudformation").describe_stack_events(StackName=stack)["StackEvents"]
    return [event["ResourceStatusReason"] for event in events if event["ResourceStatus"].endswith("_FAILED")]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.type)
def test_a_name_that_a_client_has_taken_is_refused_until_it_is_free(kind: Kind) -> None:
    body = template(Named=resource(kind.type, **kind.properties))
    kind.create()
    before = kind.describe()
    assert create("Names", body) == "ROLLBACK_COMPLETE"
    (reason,) = reasons("Names")
    assert f'Resource handler returned message: "{kind.message}' in reason
    assert reason.endswith(", HandlerErrorCode: AlreadyExists)")
    assert kind.describe() == before, "what existed is left as it was"
    delete("Names")
    assert kind.describe() == before
    kind.delete()
    assert create("Names", body) == "CREATE_COMPLETE"
    delete("Names")


def group(name: str, days: int = 7) -> dict[str, Any]:
    return resource("AWS::Logs::LogGroup", LogGroupName=name, RetentionInDays=days)


def groups() -> dict[str, int | None]:
    return {
        each["logGroupName"]: each.get("retentionInDays")
        for each in boto3.client("logs").describe_log_groups()["logGroups"]
    }


def test_a_name_of_another_stack_is_refused() -> None:
    assert create("First", template(Group=group("first"))) == "CREATE_COMPLETE"
    assert create("Second", template(Group=group("first", 14))) == "ROLLBACK_COMPLETE"
    delete("Second")
    assert groups() == {"first": 7}
    delete("First")


def test_an_update_changes_its_own_resource_and_takes_no_name_of_others() -> None:
    assert create("Own", template(Group=group("own"))) == "CREATE_COMPLETE"
    assert update("Own", template(Group=group("own", 14))) == "UPDATE_COMPLETE"
    boto3.client("logs").create_log_group(logGroupName="taken")
    for added in ({"Group": group("taken", 14)}, {"Group": group("own", 30), "More": group("taken", 14)}):
        assert update("Own", template(**added)) == "UPDATE_ROLLBACK_COMPLETE"
        assert groups() == {"own": 14, "taken": None}
    assert update("Own", template(Group=group("renamed", 14))) == "UPDATE_COMPLETE"
    assert groups() == {"renamed": 14, "taken": None}
    delete("Own")
    boto3.client("logs").delete_log_group(logGroupName="taken")


def test_the_same_name_under_another_logical_id_is_refused() -> None:
    assert create("Moved", template(Before=group("moved"))) == "CREATE_COMPLETE"
    assert update("Moved", template(After=group("moved"))) == "UPDATE_ROLLBACK_COMPLETE"
    assert groups() == {"moved": 7}
    delete("Moved")


def test_what_a_killed_emulator_created_for_a_stack_that_it_lost_is_free_again(running: LocalAccount) -> None:
    assert create("Kept", template(Group=group("kept"))) == "CREATE_COMPLETE"
    boto3.client("logs").create_log_group(logGroupName="lost")
    boto3.client("logs").create_log_group(logGroupName="others")
    state = Path(running.state)
    saved = state / "emulator/cloudwatch_logs.json"
    wait_until(lambda: all(f"'{name}'" in saved.read_text() for name in ("kept", "lost", "others")), 30, "a snapshot")
    stack_id = boto3.client("cloudformation").describe_stacks(StackName="Kept")["Stacks"][0]["StackId"]
    kind = "AWS::Logs::LogGroup"
    creations = [
        Creation(stack_id, "Group", kind, "kept", REGION),
        Creation(f"{stack_id}-lost", "Group", kind, "lost", REGION),
        Creation(stack_id, "Gone", kind, "never created", REGION),
    ]
    journal = state / "emulator/creating.json"
    assert json.loads(journal.read_text()) == []
    journal.write_text(json.dumps([asdict(each) for each in creations]))
    restart_emulator(running)
    assert groups() == {"kept": 7, "others": None}
    assert json.loads(journal.read_text()) == []
    delete("Kept")
    boto3.client("logs").delete_log_group(logGroupName="others")


SERVER = """
import os
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

HTTPServer(("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Handler).serve_forever()
"""


@pytest.fixture
def target(running: LocalAccount, tmp_path: Path) -> Any:
    """What identifies the only variant of an endpoint as a scalable target."""
    (tmp_path / "server.py").write_text(SERVER)
    image = Image(str(tmp_path), "/", (sys.executable, str(tmp_path / "server.py")), {}, sys.prefix)
    image.save(Path(running.state), "tiny:1")
    sagemaker = boto3.client("sagemaker")
    uri = f"{ACCOUNT_ID}.dkr.ecr.{REGION}.amazonaws.com/tiny:1"
    sagemaker.create_model(ModelName="m", PrimaryContainer={"Image": uri}, ExecutionRoleArn=ROLE)
    variant: Any = {"VariantName": "v", "ModelName": "m", "InstanceType": "ml.c5.large", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName="e", EndpointConfigName="c")
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="e", WaiterConfig={"Delay": 1})
    return {
        "ServiceNamespace": "sagemaker",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
        "ResourceId": "endpoint/e/variant/v",
    }


def test_a_stack_does_not_take_over_scaling_that_a_client_has_set_up(target: Any) -> None:
    scaling = boto3.client("application-autoscaling")
    steps: Any = {
        "AdjustmentType": "ChangeInCapacity",
        "StepAdjustments": [{"MetricIntervalLowerBound": 0.0, "ScalingAdjustment": 1}],
    }
    own: Any = {**steps, "Cooldown": 7}
    scaling.register_scalable_target(**target, MinCapacity=1, MaxCapacity=1)
    scaling.put_scaling_policy(**target, PolicyName="own", PolicyType="StepScaling", StepScalingPolicyConfiguration=own)

    def described() -> list[Any]:
        return [
            scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"],
            scaling.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"],
        ]

    before = described()
    id = "|".join(target[key] for key in ("ResourceId", "ScalableDimension", "ServiceNamespace"))
    named = {"PolicyName": "own", "PolicyType": "StepScaling", "ScalingTargetId": id}
    for kind, properties, message in (
        ("ScalableTarget", {**target, "MinCapacity": 1, "MaxCapacity": 2}, f"{id} already exists"),
        ("ScalingPolicy", {**named, "StepScalingPolicyConfiguration": steps}, "Scaling Policy Already Exists"),
    ):
        body = template(It=resource(f"AWS::ApplicationAutoScaling::{kind}", **properties))
        assert create("Scaling", body) == "ROLLBACK_COMPLETE"
        assert any(message in reason for reason in reasons("Scaling"))
        assert described() == before
        delete("Scaling")
