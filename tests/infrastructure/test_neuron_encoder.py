"""What the templates promise of BERT on Inferentia: packed, private, reached without SSH, and gone when destroyed."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.infrastructure.conftest import Assembly, run_app
from tests.infrastructure.test_neo import plain
from tests.infrastructure.test_templates import SERVING, statements

Synthesize = Callable[..., Assembly]
NEURON = """
environment: neuron
workloads:
  neuron_encoder:
    kind: neuron_encoder
    models:
      traced: {source: {kind: demo}}
      virtual: {source: {kind: demo}, target: cpu}
    endpoints:
      real: {hosting: sagemaker, model: traced, instance_type: ml.inf2.8xlarge}
      timed:
        hosting: sagemaker
        model: virtual
        instance_type: ml.c6i.2xlarge
        device: timed
        virtual_cores: 2
        copies_per_core: 2
      fleet: {hosting: ec2, model: traced, instance_type: inf2.24xlarge, max_instances: 3}
"""


def write(path: Path, *changes: tuple[str, str]) -> str:
    """Writes the deployment with some of its text changed."""
    text = NEURON
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    return str(path)


@pytest.fixture(scope="module")
def assembly(synthesize: Synthesize, tmp_path_factory: pytest.TempPathFactory) -> Assembly:
    return synthesize(write(tmp_path_factory.mktemp("deployment") / "neuron.yaml"))


def only(assembly: Assembly, kind: str) -> dict[str, Any]:
    (found,) = assembly.resources(kind).values()
    properties: dict[str, Any] = found["Properties"]
    return properties


def launched(assembly: Assembly) -> dict[str, Any]:
    data: dict[str, Any] = only(assembly, "AWS::EC2::LaunchTemplate")["LaunchTemplateData"]
    return data


def script(assembly: Assembly) -> str:
    return plain(_without_calls(launched(assembly)["UserData"]["Fn::Base64"]))


def _without_calls(value: Any) -> Any:
    """Lists of arguments are no text: a call within the script's join is named only."""
    separator, parts = value["Fn::Join"]
    known = ("Ref", "Fn::GetAtt", "Fn::ImportValue", "Fn::Sub")
    return {"Fn::Join": [separator, [p if isinstance(p, str) or next(iter(p)) in known else "<called>" for p in parts]]}


def test_inferentia_gets_the_neuron_ami_and_the_key_and_other_instances_get_the_default_ami(assembly: Assembly) -> None:
    configs = [each["Properties"] for each in assembly.resources("AWS::SageMaker::EndpointConfig").values()]
    asked = {
        variant["InstanceType"]: variant.get("InferenceAmiVersion")
        for config in configs
        for variant in config["ProductionVariants"]
    }
    assert asked == {"ml.inf2.8xlarge": "al2-ami-sagemaker-inference-neuron-2", "ml.c6i.2xlarge": None}
    assert all("KmsKeyId" in config for config in configs), "Inf2 has EBS volumes only"


def test_nothing_has_a_public_address_and_no_way_leads_to_the_internet(assembly: Assembly) -> None:
    for absent in ("InternetGateway", "NatGateway", "EIP", "EgressOnlyInternetGateway"):
        assert not assembly.resources(f"AWS::EC2::{absent}")
    (interface,) = launched(assembly)["NetworkInterfaces"]
    assert interface["AssociatePublicIpAddress"] is False
    assert only(assembly, "AWS::ElasticLoadBalancingV2::LoadBalancer")["Scheme"] == "internal"
    subnets = assembly.resources("AWS::EC2::Subnet").values()
    assert len(subnets) == 2
    assert not any(subnet["Properties"]["MapPublicIpOnLaunch"] for subnet in subnets)
    zones = {json.dumps(subnet["Properties"]["AvailabilityZone"]) for subnet in subnets}
    assert len(zones) == 2


def test_there_is_no_ssh_and_sessions_come_through_the_ssm_agent(assembly: Assembly) -> None:
    assert "KeyName" not in launched(assembly)
    ports = {
        rule.get("FromPort")
        for group in assembly.resources("AWS::EC2::SecurityGroup").values()
        for rule in group["Properties"].get("SecurityGroupIngress", [])
    } | {rule["Properties"]["FromPort"] for rule in assembly.resources("AWS::EC2::SecurityGroupIngress").values()}
    assert ports == {80, 443, 8080}
    services = {
        plain(endpoint["Properties"]["ServiceName"]).rpartition("amazonaws.")[2].rpartition(">.")[2]
        for endpoint in assembly.resources("AWS::EC2::VPCEndpoint").values()
    }
    assert services == {"cloudformation", "s3", "ecr.api", "ecr.dkr", "logs", "ssm", "ssmmessages"}


def test_every_group_admits_only_its_neighbour(assembly: Assembly) -> None:
    rules = assembly.resources("AWS::EC2::SecurityGroupIngress").values()
    sources = {
        (rule["Properties"]["FromPort"], plain(rule["Properties"]["SourceSecurityGroupId"]).partition(".")[0][1:15])
        for rule in rules
    }
    assert sources == {(443, "FleetInstances"), (8080, "FleetBalancer6")}
    balancer = next(g for name, g in assembly.resources("AWS::EC2::SecurityGroup").items() if "Balancer" in name)
    (ingress,) = balancer["Properties"]["SecurityGroupIngress"]
    (network,) = assembly.resources("AWS::EC2::VPC").values()
    assert ingress["CidrIp"] == network["Properties"]["CidrBlock"], "from the network itself"


def test_an_instance_needs_tokens_for_its_metadata_and_gives_its_containers_none(assembly: Assembly) -> None:
    assert launched(assembly)["MetadataOptions"] == {
        "HttpEndpoint": "enabled",
        "HttpTokens": "required",
        "HttpPutResponseHopLimit": 1,
    }


def test_volumes_are_encrypted_gp3(assembly: Assembly) -> None:
    (volume,) = launched(assembly)["BlockDeviceMappings"]
    assert (volume["Ebs"]["Encrypted"], volume["Ebs"]["VolumeType"]) == (True, "gp3")


def test_the_machine_image_is_found_when_it_is_deployed(assembly: Assembly) -> None:
    template = assembly.templates()["Neuron-NeuronEncoder"]
    parameter = template["Parameters"][launched(assembly)["ImageId"]["Ref"]]
    assert parameter == {
        "Type": "AWS::SSM::Parameter::Value<AWS::EC2::Image::Id>",
        "Default": "/aws/service/neuron/dlami/base/amazon-linux-2023/latest/image_id",
    }


def test_the_instances_may_do_only_this(assembly: Assembly) -> None:
    granted = statements(assembly, "Neuron-NeuronEncoder/FleetRole")
    sessions = {"ssm:UpdateInstanceInformation"} | {
        f"ssmmessages:{verb}{channel}Channel" for verb in ("Create", "Open") for channel in ("Control", "Data")
    }
    assert set(granted) == sessions | {
        "s3:GetObject",
        "kms:Decrypt",
        "ecr:BatchCheckLayerAvailability",
        "ecr:BatchGetImage",
        "ecr:GetDownloadUrlForLayer",
        "ecr:GetAuthorizationToken",
        "cloudformation:SignalResource",
        "logs:CreateLogStream",
        "logs:DescribeLogStreams",
        "logs:PutLogEvents",
    }
    # These have no resource-level permission in IAM.
    anywhere = {action for action, resources in granted.items() if "*" in resources}
    assert anywhere == sessions | {"ecr:GetAuthorizationToken"}
    assert ["/neuron_encoder/*" in archive for archive in granted["s3:GetObject"]] == [True]
    role = next(
        r for n, r in assembly.resources("AWS::IAM::Role").items() if n.startswith("Neuron-NeuronEncoder/FleetRole")
    )
    assert "ManagedPolicyArns" not in role["Properties"]


def test_the_execution_role_of_an_endpoint_is_that_of_every_other(assembly: Assembly) -> None:
    for key in ("Real", "Timed"):
        assert set(statements(assembly, f"Neuron-NeuronEncoder/{key}Role")) == SERVING


def test_an_instance_has_a_service_for_every_neuron_core(assembly: Assembly) -> None:
    text = script(assembly)
    for core in range(12):
        environment = f"VISIBLE={core}\nCORES={core}-{core}\nPORT={8081 + core}\nTHREADS=8\n"
        assert f"cat >/etc/neuron-encoder/{core}.env <<'END_OF_FILE'\n{environment}" in text
        assert f"location /predictions_neuron_core_{core}/ {{ proxy_pass http://127.0.0.1:{8081 + core}; }}" in text
    assert " ".join(f"neuron-encoder@{core}" for core in range(12)) + " nginx neuron-encoder-metrics" in text
    assert " ".join(f"--device /dev/neuron{device}" for device in range(6)) in text
    for kept in ("Restart=always", "--read-only", "--cap-drop ALL", "--publish 127.0.0.1:", "--pull never"):
        assert kept in text
    assert len(text) < 16384, "EC2's limit of user data"


def test_the_script_is_sound_bash(assembly: Assembly) -> None:
    text = re.sub(r"<[^<>\n]+>", "filled-in", script(assembly))
    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_instances_start_once_their_network_is_there(assembly: Assembly) -> None:
    (group,) = assembly.resources("AWS::AutoScaling::AutoScalingGroup").values()
    endpoints = {name.partition("/")[2] for name in assembly.resources("AWS::EC2::VPCEndpoint")}
    assert endpoints <= set(group["DependsOn"])


def test_the_group_is_checked_by_its_load_balancer_over_two_zones(assembly: Assembly) -> None:
    group = only(assembly, "AWS::AutoScaling::AutoScalingGroup")
    assert (group["MinSize"], group["MaxSize"], group["HealthCheckType"]) == ("1", "3", "ELB")
    assert "DesiredCapacity" not in group, "an update keeps what scaling has come to"
    assert len(group["VPCZoneIdentifier"]) == 2
    targets = only(assembly, "AWS::ElasticLoadBalancingV2::TargetGroup")
    assert (targets["HealthCheckPath"], targets["Port"], targets["TargetType"]) == ("/ping", 8080, "instance")


def test_a_fleet_follows_the_utilization_of_its_neuron_cores(assembly: Assembly) -> None:
    policy = only(assembly, "AWS::AutoScaling::ScalingPolicy")
    assert policy["PolicyType"] == "TargetTrackingScaling"
    tracking = policy["TargetTrackingConfiguration"]
    assert tracking["TargetValue"] == 60
    assert tracking["CustomizedMetricSpecification"] == {
        "Namespace": "NeuronEncoder",
        "MetricName": "CoreUtilization",
        "Statistic": "Average",
        "Unit": "Percent",
        "Dimensions": [{"Name": "Endpoint", "Value": "neuron-neuron-encoder-fleet"}],
    }


def test_the_dashboard_shows_every_core_and_the_target(assembly: Assembly) -> None:
    properties = assembly.resources("AWS::CloudWatch::Dashboard")["Neuron-NeuronEncoder/Dashboard"]["Properties"]
    body = json.loads(plain(properties["DashboardBody"]))
    cores = next(w for w in body["widgets"] if "each NeuronCore" in w["properties"].get("title", ""))["properties"]
    assert [metric[:6] for metric in cores["metrics"]] == [
        ["NeuronEncoder", "CoreUtilization", "Endpoint", "neuron-neuron-encoder-fleet", "NeuronCore", str(core)]
        for core in range(12)
    ]
    assert cores["annotations"]["horizontal"][0]["value"] == 60
    texts = [widget["properties"]["markdown"] for widget in body["widgets"] if widget["type"] == "text"]
    assert [text.splitlines()[0] for text in texts] == [
        "## neuron-neuron-encoder-real",
        "## neuron-neuron-encoder-timed",
    ]


def test_each_endpoint_serves_its_own_target_from_its_own_image(assembly: Assembly) -> None:
    models = {
        name.partition("/")[2]: model["Properties"]["PrimaryContainer"]
        for name, model in assembly.resources("AWS::SageMaker::Model").items()
    }
    assert plain(models["RealModel"]["ModelDataUrl"]).endswith("/inf2/model.tar.gz")
    assert plain(models["TimedModel"]["ModelDataUrl"]).endswith("/cpu/model.tar.gz")
    assert models["RealModel"]["Environment"]["NEURON_ENCODER_INSTANCE_TYPE"] == "inf2.8xlarge"
    assert models["TimedModel"]["Environment"]["NEURON_ENCODER_VIRTUAL_CORES"] == "2"
    assert models["TimedModel"]["Environment"]["NEURON_ENCODER_MODELS"] == "2"
    assert models["RealModel"]["Image"] != models["TimedModel"]["Image"]


def test_destroy_leaves_nothing(assembly: Assembly) -> None:
    groups = assembly.resources("AWS::Logs::LogGroup").values()
    assert {group["DeletionPolicy"] for group in groups} == {"Delete"}
    assert all(group["Properties"]["RetentionInDays"] == 30 for group in groups)
    kept = [
        name
        for stack in assembly.templates().values()
        for name, resource in stack["Resources"].items()
        if resource.get("DeletionPolicy") == "Retain"
    ]
    assert kept == []
    attributes = only(assembly, "AWS::ElasticLoadBalancingV2::LoadBalancer")["LoadBalancerAttributes"]
    assert {"Key": "deletion_protection.enabled", "Value": "false"} in attributes


def test_the_build_traces_where_there_is_memory_and_reads_the_code_that_it_shares(assembly: Assembly) -> None:
    project = only(assembly, "AWS::CodeBuild::Project")
    assert project["Environment"]["ComputeType"] == "BUILD_GENERAL1_XLARGE"
    assert not assembly.resources("AWS::CodeBuild::Fleet"), "nothing here needs VNNI"
    (source,) = assembly.folder.glob("asset.*/model_build/neuron_encoder")
    assert (source.parent / "encoder/source.py").is_file()
    assert (source.parents[1] / "containers/neuron_encoder/artifact.py").is_file()
    assert not (source.parent / "saved_model").exists()


def test_an_older_machine_image_zones_and_https_are_settings(synthesize: Synthesize, tmp_path: Path) -> None:
    settings = (
        "inf2.24xlarge, image_id: ami-0123456789abcdef0, availability_zones: [us-east-1a, us-east-1c], "
        'certificate_arn: "arn:aws:acm:us-east-1:123456789012:certificate/abc"'
    )
    path = write(
        tmp_path / "other.yaml", ("inf2.24xlarge, max_instances: 3", f"{settings}, max_instances: 1")
    )  # fmt: skip
    changed = synthesize(path)
    assert launched(changed)["ImageId"] == "ami-0123456789abcdef0"
    zones = {subnet["Properties"]["AvailabilityZone"] for subnet in changed.resources("AWS::EC2::Subnet").values()}
    assert zones == {"us-east-1a", "us-east-1c"}
    listener = only(changed, "AWS::ElasticLoadBalancingV2::Listener")
    assert (listener["Port"], listener["Protocol"]) == (443, "HTTPS")
    assert not changed.resources("AWS::AutoScaling::ScalingPolicy"), "a fleet of one size has nothing to track"


def test_inf1_has_no_guardrails_and_a_warning_at_synth(synthesize: Synthesize, tmp_path: Path) -> None:
    path = write(
        tmp_path / "inf1.yaml",
        ("traced: {source: {kind: demo}}", "traced: {source: {kind: demo}, target: inf1, lengths: [128, 256], "
                                           "dynamic_batch: true}"),
        ("ml.inf2.8xlarge", "ml.inf1.2xlarge, guardrails: off"),
        ("inf2.24xlarge", "inf1.6xlarge, image_id: ami-0123456789abcdef0"),
    )  # fmt: skip
    assembly = synthesize(path)
    endpoint = next(e for n, e in assembly.resources("AWS::SageMaker::Endpoint").items() if "/Real" in n)
    assert "DeploymentConfig" not in endpoint["Properties"]
    written = " ".join(file.read_text() for file in assembly.folder.glob("*.json"))
    assert "target is 'inf1', a legacy setting" in written


def test_twice_gives_the_same_bytes(synthesize: Synthesize, assembly: Assembly, tmp_path: Path) -> None:
    again = synthesize(write(tmp_path / "neuron.yaml"))
    for path in assembly.folder.glob("*.template.json"):
        assert path.read_bytes() == (again.folder / path.name).read_bytes()


def test_what_does_not_fit_is_a_clean_error(tmp_path: Path) -> None:
    path = write(tmp_path / "wrong.yaml", ("inf2.24xlarge,", "inf2.24xlarge, processes: 13,"))
    done = run_app(tmp_path / "out", path)
    assert done.returncode == 1
    assert "copies is 13: inf2.24xlarge has 12 NeuronCores" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_deployment_waits_until_every_instance_responds(assembly: Assembly) -> None:
    (group,) = assembly.resources("AWS::AutoScaling::AutoScalingGroup").items()
    name, resource = group
    assert resource["CreationPolicy"]["ResourceSignal"] == {"Count": 1, "Timeout": "PT15M"}
    assert resource["UpdatePolicy"]["AutoScalingRollingUpdate"]["WaitOnResourceSignals"] is True
    text = script(assembly)
    assert f"--logical-resource-id {name.rpartition('/')[2]} " in text
    assert text.index("trap 'signal FAILURE' ERR") < text.index("dnf install")
    assert text.index("/ping") < text.index("signal SUCCESS")


def test_packages_come_from_amazon_linux_only_since_the_network_reaches_no_other_repository(assembly: Assembly) -> None:
    assert "dnf install --assumeyes --disablerepo='*' --enablerepo=amazonlinux " in script(assembly)
