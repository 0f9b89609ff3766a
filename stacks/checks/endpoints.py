"""Checks of every synthesized template for rules on endpoints that cdk-nag lacks.

`app.py` runs them at each synth, and stops with one line per violation. They read only templates and the deployment's
profile.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sizing.instances import instance

Templates = Mapping[str, Mapping[str, Any]]
"""Templates by the name of their stack."""
UNSCOPED_ACTIONS: Mapping[str, str] = {
    "cloudwatch:PutMetricData": "no resource in IAM; bound by cloudwatch:namespace",
    "ecr:GetAuthorizationToken": "no resource in IAM; the token opens the repositories that are granted",
    "ec2:AssignPrivateIpAddresses": "network interfaces of functions, which Lambda creates and names",
    "ec2:CreateNetworkInterface": "network interfaces in the deployment's subnets, which the service creates and names",
    "ec2:CreateNetworkInterfacePermission": "hands such an interface to the service; EC2 takes a service's name for it",
    "ec2:DeleteNetworkInterface": "the interfaces that the service created, whose names are not known in advance",
    "ec2:DeleteNetworkInterfacePermission": "the same",
    "ec2:DescribeDhcpOptions": "no resource in IAM",
    "ec2:DescribeNetworkInterfaces": "no resource in IAM",
    "ec2:DescribeSecurityGroups": "no resource in IAM",
    "ec2:DescribeSubnets": "no resource in IAM",
    "ec2:DescribeVpcs": "no resource in IAM",
    "ec2:UnassignPrivateIpAddresses": "network interfaces of functions, which Lambda creates and names",
    "sts:GetServiceBearerToken": "no resource in IAM; bound to CodeArtifact by sts:AWSServiceName",
    "ssm:UpdateInstanceInformation": "no resource in IAM for instances that the agent registers",
    "ssmmessages:CreateControlChannel": "no resource in IAM",
    "ssmmessages:CreateDataChannel": "no resource in IAM",
    "ssmmessages:OpenControlChannel": "no resource in IAM",
    "ssmmessages:OpenDataChannel": "no resource in IAM",
}
"""Actions that a policy may allow for every resource, and why; any other action must name resources."""
_PINNED = re.compile(r"@sha256:[0-9a-f]{64}$|:[0-9a-f]{64}$")
_RELEASED = re.compile(r"^<account>\.dkr\.ecr\..*/[a-z-]+:\d+\.\d+[\w.-]*$")
"""An image of AWS's own registries, whose account comes from a table by region, by the number of its release."""


@dataclass(frozen=True, slots=True)
class Violation:
    """resource: `Stack/LogicalId`. problem: what is wrong and what to do."""

    rule: str
    resource: str
    problem: str

    def __str__(self) -> str:
        return f"{self.resource}: {self.problem} [{self.rule}]"


def check(templates: Templates, *, profile: str) -> list[Violation]:
    """Return all violations; profile: "dev" or "prod"."""
    return [
        Violation(name, resource, problem)
        for name, rule in RULES.items()
        for resource, problem in rule(templates, profile)
    ]


def _volumes_are_encrypted(templates: Templates, profile: str) -> Iterator[tuple[str, str]]:
    del profile
    for name, config in _of(templates, "AWS::SageMaker::EndpointConfig"):
        types = [variant["InstanceType"] for variant in _variants(config)]
        # Where the storage is local NVMe, its hardware encrypts it.
        if "KmsKeyId" not in config and not any(instance(each).family.local_nvme for each in types):
            yield name, "KmsKeyId is missing: give the deployment's key, or the storage is encrypted by AWS's"


def _containers_have_no_network(templates: Templates, profile: str) -> Iterator[tuple[str, str]]:
    del profile
    for name, model in _of(templates, "AWS::SageMaker::Model"):
        if model.get("EnableNetworkIsolation") is not True:
            yield name, "EnableNetworkIsolation is not true: a container could send requests anywhere"
    for name, config in _of(templates, "AWS::SageMaker::EndpointConfig"):
        hosts_components = any("ModelName" not in variant for variant in _variants(config))
        if hosts_components and config.get("EnableNetworkIsolation") is not True:
            yield name, "EnableNetworkIsolation is not true, and of components the configuration decides it"


def _production_survives_an_instance(templates: Templates, profile: str) -> Iterator[tuple[str, str]]:
    if profile != "prod":
        return
    for name, config in _of(templates, "AWS::SageMaker::EndpointConfig"):
        for variant in config["ProductionVariants"]:
            managed = variant.get("ManagedInstanceScaling", {})
            counts = {
                "InitialInstanceCount": variant.get("InitialInstanceCount", 2),
                "MinInstanceCount": managed.get("MinInstanceCount", 2),
            }
            yield from _two(name, {f"{variant['VariantName']}.{setting}": count for setting, count in counts.items()})
    for name, component in _of(templates, "AWS::SageMaker::InferenceComponent"):
        yield from _two(name, {"CopyCount": component["RuntimeConfig"]["CopyCount"]})
    for name, target in _of(templates, "AWS::ApplicationAutoScaling::ScalableTarget"):
        yield from _two(name, {"MinCapacity": target["MinCapacity"]})
    for name, group in _of(templates, "AWS::AutoScaling::AutoScalingGroup"):
        yield from _two(name, {"MinSize": group["MinSize"]})


def _two(resource: str, counts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for setting, count in counts.items():
        if int(count) < 2:
            yield resource, f"{setting} is {count} in profile prod: the loss of one zone would stop it; give at least 2"


def _updates_roll_back(templates: Templates, profile: str) -> Iterator[tuple[str, str]]:
    for stack, template in templates.items():
        resources = template.get("Resources", {})
        for name, resource in resources.items():
            if not _takes_updates(resource, resources):
                continue
            config = resource["Properties"].get("DeploymentConfig", {})
            alarms = config.get("AutoRollbackConfiguration", {}).get("Alarms", [])
            if not 1 <= len(alarms) <= 10:
                if profile == "prod" or config:
                    yield (
                        f"{stack}/{name}",
                        f"its updates watch {len(alarms)} alarms: SageMaker rolls back by 1 to 10; set guardrails",
                    )
                continue
            for alarm in alarms:
                named = alarm["AlarmName"]
                target = resources.get(named.get("Ref", "")) if isinstance(named, Mapping) else None
                if target is None or target["Type"] != "AWS::CloudWatch::Alarm":
                    yield f"{stack}/{name}", f"its updates watch {_text(named)}, which is no alarm of this stack"


def _takes_updates(resource: Mapping[str, Any], resources: Mapping[str, Any]) -> bool:
    """Return whether updates of a resource roll out in steps: an endpoint with models of its own, or a component."""
    if resource["Type"] == "AWS::SageMaker::InferenceComponent":
        return True
    if resource["Type"] != "AWS::SageMaker::Endpoint":
        return False
    named = resource["Properties"]["EndpointConfigName"]
    logical_id = named["Fn::GetAtt"][0] if isinstance(named, Mapping) and "Fn::GetAtt" in named else ""
    variants = resources.get(logical_id, {}).get("Properties", {"ProductionVariants": []})["ProductionVariants"]
    return all("ModelName" in each and instance(each["InstanceType"]).family.guardrails for each in variants)


def _captures_are_encrypted(templates: Templates, profile: str) -> Iterator[tuple[str, str]]:
    del profile
    for name, config in _of(templates, "AWS::SageMaker::EndpointConfig"):
        capture = config.get("DataCaptureConfig")
        if capture is not None and "KmsKeyId" not in capture:
            yield name, "DataCaptureConfig.KmsKeyId is missing: requests would be stored without the deployment's key"


def _images_cannot_change(templates: Templates, profile: str) -> Iterator[tuple[str, str]]:
    del profile
    for name, image in _images(templates):
        text = _text(image)
        if not _PINNED.search(text) and not _RELEASED.match(text):
            yield (
                name,
                f"the image {text!r} can change under its name: give a digest, an asset of this app, or the numbered "
                "release of one of AWS's",
            )


def _images(templates: Templates) -> Iterator[tuple[str, Any]]:
    for name, model in _of(templates, "AWS::SageMaker::Model"):
        for container in [model.get("PrimaryContainer", {}), *model.get("Containers", [])]:
            if "Image" in container:
                yield name, container["Image"]
    for name, task in _of(templates, "AWS::ECS::TaskDefinition"):
        for container in task["ContainerDefinitions"]:
            yield name, container["Image"]


def _policies_name_what_they_allow(templates: Templates, profile: str) -> Iterator[tuple[str, str]]:
    del profile
    for name, statement in _statements(templates):
        if statement["Effect"] != "Allow":
            continue
        if "NotAction" in statement or "NotResource" in statement:
            yield name, "a statement allows everything but something: name what it allows"
            continue
        actions, resources = _listed(statement["Action"]), _listed(statement["Resource"])
        for action in actions:
            if "*" in action:
                yield name, f"the action {action} has a wildcard: name the actions"
            elif "*" in resources and action not in UNSCOPED_ACTIONS:
                yield name, f"{action} is allowed for every resource: name them, or add it to UNSCOPED_ACTIONS with why"


def _statements(templates: Templates) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the statements of roles and their policies; policies of keys and buckets apply only to themselves."""
    for kind in ("AWS::IAM::Policy", "AWS::IAM::ManagedPolicy"):
        for name, policy in _of(templates, kind):
            for statement in _listed(policy["PolicyDocument"]["Statement"]):
                yield name, statement
    for name, role in _of(templates, "AWS::IAM::Role"):
        for policy in role.get("Policies", []):
            for statement in _listed(policy["PolicyDocument"]["Statement"]):
                yield name, statement


def _roles_are_of_this_project(templates: Templates, profile: str) -> Iterator[tuple[str, str]]:
    del profile
    for name, role in _of(templates, "AWS::IAM::Role"):
        for managed in role.get("ManagedPolicyArns", []):
            text = _text(managed)
            if re.search(r"policy/.*(FullAccess|AdministratorAccess|PowerUserAccess)$", text):
                yield name, f"it has {text}: write a policy of what is needed"


def _of(templates: Templates, kind: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for stack, template in templates.items():
        for name, resource in template.get("Resources", {}).items():
            if resource["Type"] == kind:
                yield f"{stack}/{name}", resource.get("Properties", {})


def _variants(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [*config["ProductionVariants"], *config.get("ShadowProductionVariants", [])]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _text(value: Any) -> str:
    """Return a template value as readable text, with references in angle brackets."""
    match value:
        case str():
            return value
        case {"Fn::Join": [delimiter, parts]}:
            return str(delimiter).join(map(_text, parts))
        case {"Fn::Sub": str() as text}:
            return re.sub(r"\$\{([^}]+)\}", r"<\1>", text)
        case {"Fn::FindInMap": [*_, attribute]}:
            return f"<{attribute}>"
        case {"Ref": name}:
            return f"<{name}>"
    return json.dumps(value)


Rule = Callable[[Templates, str], Iterator[tuple[str, str]]]
RULES: Mapping[str, Rule] = {
    "encrypted-volumes": _volumes_are_encrypted,
    "network-isolation": _containers_have_no_network,
    "two-instances": _production_survives_an_instance,
    "rollback-alarms": _updates_roll_back,
    "encrypted-capture": _captures_are_encrypted,
    "immutable-images": _images_cannot_change,
    "no-wildcards": _policies_name_what_they_allow,
    "no-broad-policies": _roles_are_of_this_project,
}
"""By name; each yields `Stack/LogicalId` and the problem."""
