"""What the templates promise of load tests on Fargate: no way to the internet, few rights, and no traces."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from stacks.settings.deployment import Deployment
from tests.infrastructure.conftest import Assembly
from tests.infrastructure.test_neo import plain
from tests.infrastructure.test_templates import statements

Synthesize = Callable[..., Assembly]
STACK = "Published-LoadTest"


@pytest.fixture(scope="module")
def assembly(synthesize: Synthesize) -> Assembly:
    return synthesize("published")


@pytest.fixture(scope="module")
def in_a_vpc(synthesize: Synthesize, tmp_path_factory: pytest.TempPathFactory) -> Assembly:
    path = tmp_path_factory.mktemp("deployment") / "shared.yaml"
    vpc = {"subnet_ids": ["subnet-1", "subnet-2"], "security_group_ids": ["sg-1"]}
    workloads = {
        "saved_model": {
            "kind": "saved_model",
            "recipe": {"preset": "demo"},
            "endpoints": {
                "parts": {
                    "server": "openvino",
                    "precision": "int8",
                    "inference_component": {"cpu_cores": 2, "memory_mib": 2048},
                }
            },
        }
    }
    settings = {"vpc": vpc, "vcpus": 2, "memory_gib": 8}
    path.write_text(yaml.safe_dump({"environment": "shared", "workloads": workloads, "load_test": settings}))
    return synthesize(str(path))


def within(assembly: Assembly, kind: str, stack: str = STACK) -> list[dict[str, Any]]:
    """Properties of the stack's resources of a kind."""
    found = assembly.resources(kind).items()
    return [resource.get("Properties", {}) for name, resource in found if name.startswith(f"{stack}/")]


def task(assembly: Assembly, stack: str = STACK) -> dict[str, Any]:
    (found,) = within(assembly, "AWS::ECS::TaskDefinition", stack)
    return found


def test_deployments_without_load_tests_have_no_such_stack(synthesize: Synthesize) -> None:
    for deployment in ("dev", "prod"):
        assert not [name for name in synthesize(deployment).templates() if name.endswith("LoadTest")]


def test_tasks_have_no_root_no_capabilities_and_no_file_to_write(assembly: Assembly) -> None:
    (container,) = task(assembly)["ContainerDefinitions"]
    assert container["User"] == "10001:10001"
    assert container["ReadonlyRootFilesystem"] is True
    assert container["LinuxParameters"] == {"Capabilities": {"Drop": ["ALL"]}, "InitProcessEnabled": True}
    assert container["StopTimeout"] == 30
    assert "Privileged" not in container


def test_a_task_is_of_the_size_of_the_settings(assembly: Assembly, in_a_vpc: Assembly) -> None:
    assert (task(assembly)["Cpu"], task(assembly)["Memory"]) == ("1024", "2048")
    larger = task(in_a_vpc, "Shared-LoadTest")
    assert (larger["Cpu"], larger["Memory"], larger["RequiresCompatibilities"]) == ("2048", "8192", ["FARGATE"])


def test_the_cluster_has_spot_and_says_how_busy_its_tasks_are(assembly: Assembly) -> None:
    (cluster,) = within(assembly, "AWS::ECS::Cluster")
    assert cluster["CapacityProviders"] == ["FARGATE", "FARGATE_SPOT"]
    assert cluster["ClusterSettings"] == [{"Name": "containerInsights", "Value": "enabled"}]
    assert not within(assembly, "AWS::ECS::Service"), "nothing runs until a load test does"


def test_a_task_may_do_only_this(assembly: Assembly) -> None:
    granted = statements(assembly, f"{STACK}/TaskRole")
    assert set(granted) == {
        "sagemaker:InvokeEndpoint", "s3:GetObject", "s3:PutObject", "kms:Decrypt", "kms:GenerateDataKey",
    }  # fmt: skip
    assert not any(resource == "*" for resources in granted.values() for resource in resources)
    assert [plain(json.loads(each)).rpartition("/load-tests/")[2] for each in granted["s3:GetObject"]] == ["*"]
    assert [plain(json.loads(each)).rpartition("/load-tests/")[2] for each in granted["s3:PutObject"]] == [
        "*/result.json"
    ]


def test_a_task_may_invoke_just_the_endpoints_of_its_deployment(assembly: Assembly, in_a_vpc: Assembly) -> None:
    published = Deployment.named("published")
    names = {
        published.endpoint_name(workload, key)
        for workload, settings in published.workloads.items()
        for key in settings.sagemaker_endpoints
    }
    invoked = statements(assembly, f"{STACK}/TaskRole")["sagemaker:InvokeEndpoint"]
    assert {plain(json.loads(each)).rpartition(":endpoint/")[2] for each in invoked} == names
    components = statements(in_a_vpc, "Shared-LoadTest/TaskRole")["sagemaker:InvokeEndpoint"]
    assert [plain(json.loads(each)).rpartition(":")[2] for each in components] == [
        "endpoint/shared-saved-model-parts",
        "inference-component/shared-saved-model-parts",
    ]


def test_the_key_is_used_through_s3_only(assembly: Assembly) -> None:
    (role,) = [
        resource["Properties"]
        for name, resource in assembly.resources("AWS::IAM::Role").items()
        if name.startswith(f"{STACK}/TaskRole")
    ]
    (policy,) = role["Policies"]
    (statement,) = [s for s in policy["PolicyDocument"]["Statement"] if "kms:Decrypt" in s["Action"]]
    assert plain(statement["Condition"]["StringEquals"]["kms:ViaService"]).startswith("s3.")


def test_fargate_may_take_the_image_and_write_the_logs(assembly: Assembly) -> None:
    assert set(statements(assembly, f"{STACK}/ExecutionRole")) == {
        "ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer",
        "ecr:GetAuthorizationToken", "logs:CreateLogStream", "logs:PutLogEvents",
    }  # fmt: skip


def test_only_tasks_of_this_account_take_the_roles_on(assembly: Assembly) -> None:
    for name, role in assembly.resources("AWS::IAM::Role").items():
        if name.startswith((f"{STACK}/TaskRole", f"{STACK}/ExecutionRole")):
            (statement,) = role["Properties"]["AssumeRolePolicyDocument"]["Statement"]
            assert statement["Principal"] == {"Service": "ecs-tasks.amazonaws.com"}
            assert set(statement["Condition"]) == {"StringEquals", "ArnLike"}


def test_no_way_leads_to_the_internet(assembly: Assembly) -> None:
    for absent in ("InternetGateway", "NatGateway", "EIP", "EgressOnlyInternetGateway"):
        assert not assembly.resources(f"AWS::EC2::{absent}")
    subnets = within(assembly, "AWS::EC2::Subnet")
    assert len(subnets) == 2
    assert not any(subnet["MapPublicIpOnLaunch"] for subnet in subnets)
    services = {
        plain(endpoint["ServiceName"]).rpartition("amazonaws.")[2].rpartition(">.")[2]
        for endpoint in within(assembly, "AWS::EC2::VPCEndpoint")
    }
    assert services == {"s3", "ecr.api", "ecr.dkr", "logs", "sagemaker.runtime"}


def test_s3_is_reached_for_load_tests_and_layers_of_images_only(assembly: Assembly) -> None:
    (gateway,) = [e for e in within(assembly, "AWS::EC2::VPCEndpoint") if e.get("VpcEndpointType") == "Gateway"]
    allowed = {
        statement["Action"]: statement["Resource"]
        if isinstance(statement["Resource"], list)
        else [statement["Resource"]]
        for statement in gateway["PolicyDocument"]["Statement"]
    }
    assert set(allowed) == {"s3:GetObject", "s3:PutObject"}
    layers, folder = sorted((plain(each) for each in allowed["s3:GetObject"]), key=lambda arn: arn.endswith("tests/*"))
    assert folder.endswith("/load-tests/*")
    assert layers.endswith("-starport-layer-bucket/*")
    assert [plain(each).rpartition("/load-tests/")[2] for each in allowed["s3:PutObject"]] == ["*/result.json"]


def test_tasks_reach_each_other_on_locusts_port_and_the_endpoints_on_443(assembly: Assembly) -> None:
    ingress = [
        (rule["FromPort"], plain(rule["GroupId"])[1:6]) for rule in within(assembly, "AWS::EC2::SecurityGroupIngress")
    ]
    assert sorted(ingress) == [(443, "Netwo"), (5557, "Tasks")]
    (tasks,) = [g for g in within(assembly, "AWS::EC2::SecurityGroup") if "load tests" in g["GroupDescription"]]
    assert "SecurityGroupIngress" not in tasks
    assert [rule["FromPort"] for rule in tasks["SecurityGroupEgress"]] == [443]
    assert [rule["FromPort"] for rule in within(assembly, "AWS::EC2::SecurityGroupEgress")] == [5557]


def test_an_existing_vpc_is_used_as_it_is(in_a_vpc: Assembly) -> None:
    assert not within(in_a_vpc, "AWS::EC2::VPC", "Shared-LoadTest")
    outputs = in_a_vpc.templates()["Shared-LoadTest"]["Outputs"]
    assert outputs["Subnets"]["Value"] == "subnet-1,subnet-2"
    assert outputs["SecurityGroups"]["Value"] == "sg-1"


def test_logs_are_encrypted_with_the_deployments_key_and_end_with_the_stack(assembly: Assembly) -> None:
    (container,) = task(assembly)["ContainerDefinitions"]
    group = assembly.templates()[STACK]["Resources"][container["LogConfiguration"]["Options"]["awslogs-group"]["Ref"]]
    assert "KmsKeyId" in group["Properties"]
    groups = [r for n, r in assembly.resources("AWS::Logs::LogGroup").items() if n.startswith(f"{STACK}/")]
    assert {each["DeletionPolicy"] for each in groups} == {"Delete"}
    named = {each["Properties"].get("LogGroupName") for each in groups}
    assert "/aws/ecs/containerinsights/published-load-test/performance" in named, "or Container Insights leaves it"
    (key,) = assembly.resources("AWS::KMS::Key").values()
    (statement,) = [s for s in key["Properties"]["KeyPolicy"]["Statement"] if s.get("Sid") == "LogsOfThisDeployment"]
    contexts = [plain(arn) for arn in statement["Condition"]["ArnLike"]["kms:EncryptionContext:aws:logs:arn"]]
    for group in ("Published-*", "/aws/ecs/containerinsights/published-*"):
        assert any(arn.endswith(f":log-group:{group}") for arn in contexts)


def test_what_a_test_leaves_in_the_bucket_ends_after_a_month(assembly: Assembly, synthesize: Synthesize) -> None:
    (artifacts,) = [
        bucket["Properties"] for name, bucket in assembly.resources("AWS::S3::Bucket").items() if "/Artifacts" in name
    ]
    (rule,) = [r for r in artifacts["LifecycleConfiguration"]["Rules"] if r.get("Id") == "LoadTests"]
    assert (rule["Prefix"], rule["ExpirationInDays"], rule["Status"]) == ("load-tests/", 30, "Enabled")
    assert "LoadTests" not in json.dumps(synthesize("dev").resources("AWS::S3::Bucket"))


def test_the_image_is_made_of_the_load_generator_and_nothing_else(assembly: Assembly) -> None:
    assets = json.loads((assembly.folder / f"{STACK}.assets.json").read_text())
    (image,) = assets["dockerImages"].values()
    folder = assembly.folder / image["source"]["directory"]
    assert image["source"]["dockerFile"] == "containers/load_test/Dockerfile"
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {path.partition("/")[0] for path in files} == {"containers", "load_tests"}
    assert {path for path in files if path.startswith("containers/")} == {
        f"containers/load_test/{name}" for name in ("Dockerfile", "__init__.py", "contract.py", "requirements.txt")
    }
    assert {"load_tests/swarm/__main__.py", "load_tests/plan.py"} <= files
    assert not any(Path(path).suffix == ".pyc" or "tuning" in path for path in files)
