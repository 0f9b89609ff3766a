"""What a local account serves, and what a deployment file says that it serves."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import boto3

from containers.tabular.features import FEATURES, archive_name
from local_aws.account import ACCOUNT_ID
from stacks.naming import camel
from stacks.settings.deployment import PLATFORM_STACKS, Deployment
from stacks.settings.endpoint import SingleVariantEndpoint
from tests.local_account import endpoint_status, runtime

_BODY = ",".join(["0"] * len(FEATURES))
_DONE = {"CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"}
_OWN_PREFIXES = ("cache", "capture")


@dataclass(frozen=True)
class Endpoint:
    """instance_count: None where the endpoint scales. ready: replicas that answer,
    None where scaling decides. scaling: fewest and most instances,
    and the names of scheduled actions. reserved_mib: memory per model, a variable of the container."""

    instance_type: str
    instance_count: int | None
    ready: int | None
    tags: dict[str, str]
    reserved_mib: int
    scaling: tuple[int, int, tuple[str, ...]] | None
    policies: int
    p99_ms: float


@dataclass(frozen=True)
class Served:
    """Everything in an account that a deployment file decides, in a form that two of can be compared."""

    stacks: frozenset[str]
    endpoints: dict[str, Endpoint]
    dashboards: frozenset[str]
    prefixes: frozenset[str]
    budgets: dict[str, float]
    models: int
    configs: int


def expected(path: Path) -> Served:
    """Return what a deployment file says."""
    deployment = Deployment.load(path)
    prefix = deployment.environment.capitalize()
    platform = {camel(name) for name in PLATFORM_STACKS} - {"LoadTest"}
    stacks = {f"{prefix}-{name}" for name in platform | {camel(name) for name in deployment.workloads}}
    endpoints = {}
    for name, workload in deployment.workloads.items():
        for key, endpoint in workload.served.items():
            assert isinstance(endpoint, SingleVariantEndpoint)
            scaling = endpoint.scaling
            full = deployment.endpoint_name(name, key)
            endpoints[full] = Endpoint(
                instance_type=endpoint.instance_type,
                instance_count=endpoint.instance_count if scaling is None else None,
                ready=endpoint.instance_count if scaling is None else None,
                tags={"environment": deployment.environment, **deployment.tags},
                reserved_mib=workload.model_dump()["memory_per_model_mib"],
                scaling=None
                if scaling is None
                else (
                    scaling.min_capacity,
                    scaling.max_capacity,
                    tuple(f"{full}-AllTraffic-{each}" for each in sorted(scaling.schedules)),
                ),
                policies=0 if scaling is None else len(scaling.targets),
                p99_ms=endpoint.alarms.p99_model_latency_ms,
            )
    budget = deployment.budget
    return Served(
        stacks=frozenset(stacks | {"CDKToolkit"}),
        endpoints=endpoints,
        dashboards=frozenset(
            f"{deployment.environment}-{name.replace('_', '-')}" for name in ("overview", *deployment.workloads)
        ),
        prefixes=frozenset(deployment.workloads),
        budgets={} if budget is None else {f"{deployment.environment}-monthly": budget.monthly_usd},
        models=len(deployment.workloads),
        configs=len(endpoints),
    )


def served() -> Served:
    """Return what the account serves; fails where an endpoint does not answer."""
    sagemaker = boto3.client("sagemaker")
    names = [each["EndpointName"] for each in sagemaker.list_endpoints()["Endpoints"]]
    stacks = boto3.client("cloudformation").describe_stacks()["Stacks"]
    assert {each["StackStatus"] for each in stacks} <= {
        "CREATE_COMPLETE",
        "UPDATE_COMPLETE",
        "UPDATE_ROLLBACK_COMPLETE",
    }
    return Served(
        stacks=frozenset(each["StackName"] for each in stacks),
        endpoints={name: _endpoint(name) for name in names},
        dashboards=frozenset(
            each["DashboardName"] for each in boto3.client("cloudwatch").list_dashboards()["DashboardEntries"]
        ),
        prefixes=frozenset(_prefixes()),
        budgets={
            each["BudgetName"]: float(each["BudgetLimit"]["Amount"])
            for each in boto3.client("budgets").describe_budgets(AccountId=ACCOUNT_ID).get("Budgets", [])
        },
        models=len(sagemaker.list_models(MaxResults=100)["Models"]),
        configs=len(sagemaker.list_endpoint_configs(MaxResults=100)["EndpointConfigs"]),
    )


def differences(wanted: Served, found: Served) -> list[str]:
    """Return the fields in which two differ, a line each; endpoints one by one."""
    lines = [
        f"{each.name} is {getattr(found, each.name)}, not {getattr(wanted, each.name)}"
        for each in fields(Served)
        if each.name != "endpoints" and getattr(found, each.name) != getattr(wanted, each.name)
    ]
    return lines + [
        f"{name} is {found.endpoints.get(name)}, not {wanted.endpoints.get(name)}"
        for name in sorted({*wanted.endpoints, *found.endpoints})
        if found.endpoints.get(name) != wanted.endpoints.get(name)
    ]


def _endpoint(name: str) -> Endpoint:
    sagemaker = boto3.client("sagemaker")
    described = sagemaker.describe_endpoint(EndpointName=name)
    assert described["EndpointStatus"] == "InService", described
    asked = {"ContentType": "text/csv", "TargetModel": archive_name("CA"), "Body": _BODY}
    assert json.loads(runtime().invoke_endpoint(EndpointName=name, **asked)["Body"].read())
    config = sagemaker.describe_endpoint_config(EndpointConfigName=described["EndpointConfigName"])
    (variant,) = config["ProductionVariants"]
    model = sagemaker.describe_model(ModelName=variant["ModelName"])
    environment = model["PrimaryContainer"].get("Environment", {})
    scaling = boto3.client("application-autoscaling")
    resource = f"endpoint/{name}/variant/{variant['VariantName']}"
    targets = scaling.describe_scalable_targets(ServiceNamespace="sagemaker", ResourceIds=[resource])["ScalableTargets"]
    actions = scaling.describe_scheduled_actions(ServiceNamespace="sagemaker", ResourceId=resource)["ScheduledActions"]
    policies = scaling.describe_scaling_policies(ServiceNamespace="sagemaker", ResourceId=resource)
    (p99,) = boto3.client("cloudwatch").describe_alarms(AlarmNames=[f"{name}-AllTraffic-latency"])["MetricAlarms"]
    return Endpoint(
        instance_type=variant["InstanceType"],
        instance_count=None if targets else variant["InitialInstanceCount"],
        ready=_ready(name, targets),
        tags={
            each["Key"]: each["Value"]
            for each in sagemaker.list_tags(ResourceArn=described["EndpointArn"])["Tags"]
            if not each["Key"].startswith("aws:")
        },
        reserved_mib=int(environment.get("MODEL_MEMORY_RESERVATION_BYTES", 0)) // 2**20,
        scaling=(
            targets[0]["MinCapacity"],
            targets[0]["MaxCapacity"],
            tuple(sorted(each["ScheduledActionName"] for each in actions)),
        )
        if targets
        else None,
        policies=len(policies["ScalingPolicies"]),
        p99_ms=p99["Threshold"] / 1000,
    )


def _ready(name: str, targets: Collection[Mapping[str, Any]]) -> int | None:
    """Return the number of replicas that answer, or None if that is within the bounds of the scaling."""
    ready = sum(
        replica["ready"]
        for status in endpoint_status()
        if status["endpoint"] == name
        for variant in status["variants"]
        for replica in variant["replicas"]
    )
    return None if any(each["MinCapacity"] <= ready <= each["MaxCapacity"] for each in targets) else ready


def _prefixes() -> list[str]:
    s3 = boto3.client("s3")
    found: list[str] = []
    for bucket in s3.list_buckets()["Buckets"]:
        if "-foundation-artifacts" in bucket["Name"]:
            listed: dict[str, Any] = dict(s3.list_objects_v2(Bucket=bucket["Name"], Delimiter="/"))
            found += [each["Prefix"].rstrip("/") for each in listed.get("CommonPrefixes", [])]
    return [each for each in found if each not in _OWN_PREFIXES]
