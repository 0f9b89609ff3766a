"""What keeps every template safe: the rules of others, and this project's own, each shown a template that breaks it."""

import copy
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sns as sns

from stacks.checks.endpoints import RULES, check
from stacks.checks.nag import Report, examine
from stacks.checks.nag_acknowledgements import acknowledge, acknowledge_wildcards
from tests import by_kind
from tests.infrastructure.conftest import Assembly, run_app

Synthesize = Callable[..., Assembly]
Templates = dict[str, dict[str, Any]]
DEPLOYMENTS = ("dev", "prod", "published")


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_cdk_nag_finds_nothing_that_is_not_explained_and_no_explanation_is_left_over(
    tmp_path: Path, deployment: str, figure: Callable[[str], None]
) -> None:
    done = run_app(tmp_path / "out", deployment, {"nag": "true"}, CDK_VALIDATION="false")
    assert done.returncode == 0, done.stdout + done.stderr
    counted = re.fullmatch(
        r"\w+: (\d+) resources, (\d+) findings acknowledged for (\d+) reasons, 0 open, 0 left over", done.stdout.strip()
    )
    assert counted is not None, done.stdout
    resources, acknowledged, reasons = map(int, counted.groups())
    figure(f"cdk-nag: {done.stdout.strip()}")
    assert resources > 50 and acknowledged >= reasons > 5


@pytest.fixture
def topic() -> sns.Topic:
    """One finding of cdk-nag, SNS3: a topic that takes messages without TLS."""
    return sns.Topic(cdk.Stack(cdk.App(), "Stack"), "Topic")


REASON = "it stands in no deployment, and nobody sends it anything"


def examined(topic: sns.Topic) -> Report:
    app = topic.node.root
    assert isinstance(app, cdk.App)
    app.synth()
    return examine(app)


def test_a_finding_is_open_until_it_is_acknowledged(topic: sns.Topic) -> None:
    assert {finding.rule for finding in examined(topic).open} == {"AwsSolutions::AwsSolutions-SNS3"}
    acknowledge(topic, "SNS3", REASON)
    found = examined(topic)
    assert found.clean and list(found.acknowledged.values()) == [REASON]


def test_an_acknowledgement_without_a_reason_accepts_nothing(topic: sns.Topic) -> None:
    acknowledge(topic, "SNS3", "false positive")
    assert examined(topic).open


def test_an_acknowledgement_of_what_is_not_found_is_left_over(topic: sns.Topic) -> None:
    acknowledge_wildcards(topic, ["arn:aws:s3:::nobody/*"], REASON)
    assert [finding.path for finding in examined(topic).unused] == ["Stack/Topic"]


def test_a_wildcard_is_acknowledged_by_the_arn_that_the_policy_has_and_no_other(topic: sns.Topic) -> None:
    stack = cdk.Stack.of(topic)
    acknowledge(topic, "SNS3", REASON)
    role = iam.Role(stack, "Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
    wide, other = f"{topic.topic_arn}:*", "arn:aws:s3:::other/*"
    role.add_to_policy(iam.PolicyStatement(actions=["sns:Publish"], resources=[wide, other]))
    acknowledge_wildcards(role, [wide], REASON)
    assert [finding.rule for finding in examined(topic).open] == [f"AwsSolutions::AwsSolutions-IAM5[Resource::{other}]"]


def test_no_acknowledgement_accepts_every_wildcard_at_once(topic: sns.Topic) -> None:
    acknowledge(topic, "SNS3", REASON)
    role = iam.Role(cdk.Stack.of(topic), "Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
    role.add_to_policy(iam.PolicyStatement(actions=["sns:Publish"], resources=["*"]))
    acknowledge(role, "IAM5", REASON)
    assert examined(topic).open


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_what_is_shipped_keeps_to_every_rule_of_this_project(
    synthesize: Synthesize, deployment: str, figure: Callable[[str], None]
) -> None:
    templates = synthesize(deployment).templates()
    assert not check(templates, profile="prod" if deployment == "prod" else "dev")
    resources = sum(len(template.get("Resources", {})) for template in templates.values())
    figure(f"endpoint checks: {deployment}: {resources} resources, {len(RULES)} rules, 0 violations")


def first(templates: Templates, kind: str) -> dict[str, Any]:
    found: dict[str, Any] = next(
        resource
        for template in templates.values()
        for resource in template["Resources"].values()
        if resource["Type"] == kind
    )
    properties: dict[str, Any] = found["Properties"]
    return properties


def variant(templates: Templates) -> dict[str, Any]:
    found: dict[str, Any] = first(templates, "AWS::SageMaker::EndpointConfig")["ProductionVariants"][0]
    return found


def statement(templates: Templates) -> dict[str, Any]:
    role = next(
        resource["Properties"]
        for resource in templates["Prod-Encoder"]["Resources"].values()
        if resource["Type"] == "AWS::IAM::Role"
    )
    found: dict[str, Any] = role["Policies"][0]["PolicyDocument"]["Statement"][0]
    return found


def rollback(templates: Templates) -> dict[str, Any]:
    found: dict[str, Any] = first(templates, "AWS::SageMaker::Endpoint")["DeploymentConfig"][
        "AutoRollbackConfiguration"
    ]
    return found


VIOLATIONS: Mapping[str, tuple[str, Callable[[Templates], Any]]] = {
    "an endpoint's storage without the key": (
        "encrypted-volumes",
        lambda t: first(t, "AWS::SageMaker::EndpointConfig").pop("KmsKeyId"),
    ),
    "a container with a network": (
        "network-isolation",
        lambda t: first(t, "AWS::SageMaker::Model").update(EnableNetworkIsolation=False),
    ),
    "components with a network": ("network-isolation", lambda t: variant(t).pop("ModelName")),
    "a production endpoint of one instance": ("two-instances", lambda t: variant(t).update(InitialInstanceCount=1)),
    "a production endpoint whose managed scaling goes to one": (
        "two-instances",
        lambda t: variant(t).update(ManagedInstanceScaling={"MinInstanceCount": 1}),
    ),
    "a production endpoint that scaling takes to one": (
        "two-instances",
        lambda t: first(t, "AWS::ApplicationAutoScaling::ScalableTarget").update(MinCapacity=1),
    ),
    "a production fleet of one": (
        "two-instances",
        lambda t: t["Prod-Encoder"]["Resources"].update(
            Group={"Type": "AWS::AutoScaling::AutoScalingGroup", "Properties": {"MinSize": "1"}}
        ),
    ),
    "a production component of one copy": (
        "two-instances",
        lambda t: t["Prod-Encoder"]["Resources"].update(
            Component={
                "Type": "AWS::SageMaker::InferenceComponent",
                "Properties": {"RuntimeConfig": {"CopyCount": 1}},
            }
        ),
    ),
    "a production endpoint without guardrails": (
        "rollback-alarms",
        lambda t: first(t, "AWS::SageMaker::Endpoint").pop("DeploymentConfig"),
    ),
    "guardrails without alarms": ("rollback-alarms", lambda t: rollback(t).update(Alarms=[])),
    "guardrails that watch an alarm that nobody made": (
        "rollback-alarms",
        lambda t: rollback(t).update(Alarms=[{"AlarmName": "some-other"}]),
    ),
    "captured requests without the key": (
        "encrypted-capture",
        lambda t: first(t, "AWS::SageMaker::EndpointConfig")["DataCaptureConfig"].pop("KmsKeyId"),
    ),
    "an image by a tag that moves": (
        "immutable-images",
        lambda t: first(t, "AWS::SageMaker::Model")["PrimaryContainer"].update(Image="registry.example/serving:latest"),
    ),
    "an image of somebody's by a number": (
        "immutable-images",
        lambda t: first(t, "AWS::SageMaker::Model")["PrimaryContainer"].update(Image="registry.example/serving:1.2"),
    ),
    "an action with a wildcard": ("no-wildcards", lambda t: statement(t).update(Action=["s3:Get*"])),
    "every resource": ("no-wildcards", lambda t: statement(t).update(Resource="*")),
    "everything but one action": ("no-wildcards", lambda t: statement(t).update(NotAction=statement(t).pop("Action"))),
    "a policy of AWS for everything": (
        "no-broad-policies",
        lambda t: first(t, "AWS::IAM::Role").update(
            ManagedPolicyArns=["arn:aws:iam::aws:policy/AmazonSageMakerFullAccess"]
        ),
    ),
}


@pytest.mark.parametrize("violation", VIOLATIONS)
def test_a_rule_finds_its_violation_and_says_where(synthesize: Synthesize, violation: str) -> None:
    rule, plant = VIOLATIONS[violation]
    templates = copy.deepcopy(synthesize("prod").templates())
    plant(templates)
    found = check(templates, profile="prod")
    assert rule in {each.rule for each in found}
    assert all(each.resource.startswith("Prod-") and each.problem for each in found)


def test_every_rule_has_a_violation_that_it_finds() -> None:
    assert {rule for rule, _ in VIOLATIONS.values()} == set(RULES)


def test_a_digest_pins_an_image_and_so_does_a_numbered_release_of_aws(synthesize: Synthesize) -> None:
    templates = copy.deepcopy(synthesize("prod").templates())
    container = first(templates, "AWS::SageMaker::Model")["PrimaryContainer"]
    container["Image"] = f"registry.example/serving@sha256:{'0' * 64}"
    assert not check(templates, profile="prod")
    images = synthesize("published").resources("AWS::SageMaker::Model").values()
    assert "sagemaker-xgboost:3.0-5" in str([image["Properties"]["PrimaryContainer"] for image in images])


def test_a_violation_stops_the_synth_and_what_another_deployment_left_in_the_folder_does_not(tmp_path: Path) -> None:
    text = by_kind.file("prod").read_text()
    unguarded = tmp_path / "unguarded.yaml"
    unguarded.write_text(text.replace("guardrails: *canary", "guardrails: off"))
    done = run_app(tmp_path / "out", str(unguarded), CDK_VALIDATION="false")
    assert done.returncode == 1
    assert "error: Prod-Tabular/" in done.stderr and "its updates watch 0 alarms" in done.stderr
    assert "Traceback" not in done.stderr
    assert run_app(tmp_path / "out", "dev", CDK_VALIDATION="false").returncode == 0


def test_a_development_endpoint_may_have_one_instance(synthesize: Synthesize) -> None:
    templates = copy.deepcopy(synthesize("prod").templates())
    variant(templates)["InitialInstanceCount"] = 1
    assert not check(templates, profile="dev")


def test_alarms_may_publish_to_the_encrypted_topic_whose_own_policy_would_else_let_nobody(
    synthesize: Synthesize,
) -> None:
    (policy,) = synthesize("prod").resources("AWS::SNS::TopicPolicy").values()
    statements = {each["Sid"]: each for each in policy["Properties"]["PolicyDocument"]["Statement"]}
    assert statements["AlarmsMayPublish"]["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert statements["AlarmsMayPublish"]["Condition"] == {
        "StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}
    }


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_every_log_group_is_encrypted_with_the_deployments_key(synthesize: Synthesize, deployment: str) -> None:
    groups = synthesize(deployment).resources("AWS::Logs::LogGroup")
    assert [name for name, group in groups.items() if "KmsKeyId" not in group["Properties"]] == []


def test_a_load_balancers_requests_are_logged_where_it_can_write(synthesize: Synthesize) -> None:
    assembly = synthesize("published")
    (balancer,) = assembly.resources("AWS::ElasticLoadBalancingV2::LoadBalancer").values()
    attributes = {each["Key"]: each["Value"] for each in balancer["Properties"]["LoadBalancerAttributes"]}
    assert attributes["access_logs.s3.enabled"] == "true"
    policies = str(assembly.resources("AWS::S3::BucketPolicy"))
    assert "logdelivery.elasticloadbalancing.amazonaws.com" in policies
    logs = next(b for name, b in assembly.resources("AWS::S3::Bucket").items() if "/AccessLogs" in name)
    (rule,) = logs["Properties"]["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256", "it writes with S3's own keys only"
