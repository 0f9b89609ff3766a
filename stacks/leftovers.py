"""What the stacks of a deployment have left in an account, after `cdk destroy` for instance, and why."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from stacks.naming import key_description
from stacks.settings.deployment import DEPLOYMENTS, Deployment

BOOTSTRAP = "cdk bootstrap made it, for every deployment of the account"
RETAINED = "retain_data keeps what was measured and built; delete it by hand when nobody needs it"


@dataclass(frozen=True, slots=True)
class Listing:
    """How a service tells of one kind: an operation, where its answer has the names, and what it is asked with."""

    kind: str
    service: str
    operation: str
    names: str
    asked: tuple[tuple[str, str], ...] = ()


LISTINGS = (
    Listing("stack", "cloudformation", "describe_stacks", "Stacks[].StackName"),
    Listing("endpoint", "sagemaker", "list_endpoints", "Endpoints[].EndpointName"),
    Listing("endpoint configuration", "sagemaker", "list_endpoint_configs", "EndpointConfigs[].EndpointConfigName"),
    Listing("model", "sagemaker", "list_models", "Models[].ModelName"),
    Listing(
        "inference component", "sagemaker", "list_inference_components", "InferenceComponents[].InferenceComponentName"
    ),
    Listing(
        "scalable target", "application-autoscaling", "describe_scalable_targets", "ScalableTargets[].ResourceId",
        (("ServiceNamespace", "sagemaker"),),
    ),
    Listing("bucket", "s3", "list_buckets", "Buckets[].Name"),
    Listing("log group", "logs", "describe_log_groups", "logGroups[].logGroupName"),
    Listing("role", "iam", "list_roles", "Roles[].RoleName"),
    Listing("function", "lambda", "list_functions", "Functions[].FunctionName"),
    Listing("state machine", "stepfunctions", "list_state_machines", "stateMachines[].name"),
    Listing("build project", "codebuild", "list_projects", "projects[]"),
    Listing("repository", "ecr", "describe_repositories", "repositories[].repositoryName"),
    Listing("cluster", "ecs", "list_clusters", "clusterArns[]"),
    Listing("topic", "sns", "list_topics", "Topics[].TopicArn"),
    Listing("alarm", "cloudwatch", "describe_alarms", "MetricAlarms[].AlarmName"),
    Listing(
        "composite alarm", "cloudwatch", "describe_alarms", "CompositeAlarms[].AlarmName",
        (("AlarmTypes", "CompositeAlarm"),),
    ),
    Listing("dashboard", "cloudwatch", "list_dashboards", "DashboardEntries[].DashboardName"),
    Listing("budget", "budgets", "describe_budgets", "Budgets[].BudgetName", (("AccountId", ""),)),
    Listing("cost anomaly monitor", "ce", "get_anomaly_monitors", "AnomalyMonitors[].MonitorName"),
    Listing("cost anomaly mail", "ce", "get_anomaly_subscriptions", "AnomalySubscriptions[].SubscriptionName"),
)  # fmt: skip
"""What this project's stacks make and name; what CloudFormation names without the stack is found by its tag."""
_KEPT_BUCKET = re.compile(r"^[a-z0-9-]+-foundation-(artifacts|accesslogs)")
_BOOTSTRAPPED = re.compile(r"^(CDKToolkit$|cdk-[a-z0-9]+-)")


@dataclass(frozen=True, slots=True)
class Leftover:
    """A resource that is still there; reason: why that is expected, None where it is not."""

    kind: str
    name: str
    reason: str | None


class ListingError(RuntimeError):
    """A kind could not be listed; the message names it and the service's answer."""


class Account:
    """The AWS account of the environment, or the local one."""

    def __init__(self, region: str | None = None) -> None:
        """Make clients in a region, by default in that of the environment."""
        self._session, self._region = botocore.session.get_session(), region
        self._clients: dict[str, Any] = {}

    def client(self, service: str) -> Any:
        """One client for each service, which does not wait long for what does not answer."""
        if service not in self._clients:
            config = Config(connect_timeout=5, read_timeout=30, retries={"total_max_attempts": 3})
            self._clients[service] = self._session.create_client(service, self._region, config=config)
        return self._clients[service]

    def names(self, listing: Listing) -> list[str]:
        """Every name of a kind, in order; raises ListingError."""
        asked: dict[str, Any] = {
            name: [value] if name == "AlarmTypes" else value or self._id() for name, value in listing.asked
        }
        try:
            pages = self.client(listing.service).get_paginator(listing.operation).paginate(**asked)
            return sorted(name for name in pages.search(listing.names) if name is not None)
        except (ClientError, BotoCoreError) as error:
            raise ListingError(f"{listing.kind}s cannot be listed: {error}") from error

    def _id(self) -> str:
        return str(self.client("sts").get_caller_identity()["Account"])

    def encryption_keys(self) -> list[dict[str, Any]]:
        """Return the metadata of every KMS key; raises ListingError."""
        kms = self.client("kms")
        try:
            found = [key["KeyId"] for page in kms.get_paginator("list_keys").paginate() for key in page["Keys"]]
            return [kms.describe_key(KeyId=key)["KeyMetadata"] for key in found]
        except (ClientError, BotoCoreError) as error:
            raise ListingError(f"keys cannot be listed: {error}") from error

    def tagged(self, environment: str) -> list[str]:
        """ARNs of what has the deployment's tag; raises ListingError."""
        pages = (
            self.client("resourcegroupstaggingapi")
            .get_paginator("get_resources")
            .paginate(TagFilters=[{"Key": "environment", "Values": [environment]}])
        )
        try:
            return sorted(each["ResourceARN"] for page in pages for each in page["ResourceTagMappingList"])
        except (ClientError, BotoCoreError) as error:
            raise ListingError(f"what has the tag environment={environment} cannot be listed: {error}") from error


def belongs(name: str, environment: str, others: Sequence[str] = ()) -> bool:
    """Whether a part of the name begins with the environment's; others: environments whose names begin alike."""
    parts = re.split(r"[/:]", name.lower())
    longer = [other for other in others if other.startswith(f"{environment}-")]
    return any(
        part.startswith(f"{environment}-") and not any(part.startswith(f"{other}-") for other in longer)
        for part in parts
    )


def leftovers(account: Account, deployment: Deployment, others: Sequence[str] = ()) -> Iterator[Leftover]:
    """Everything of the deployment, and of the bootstrap, that is there; raises ListingError."""
    environment = deployment.environment
    seen: set[str] = set()
    for listing in LISTINGS:
        for name in account.names(listing):
            if _BOOTSTRAPPED.match(name):
                if listing.kind in ("stack", "bucket", "repository"):
                    yield Leftover(listing.kind, name, BOOTSTRAP)
            elif belongs(name, environment, others):
                seen.add(re.split(r"[/:]", name)[-1])
                kept = deployment.retain_data and listing.kind == "bucket" and _KEPT_BUCKET.match(name)
                yield Leftover(listing.kind, name, RETAINED if kept else None)
    for key in account.encryption_keys():
        if key.get("Description") == key_description(environment):
            seen.add(key["KeyId"])
            yield Leftover("key", key["KeyId"], _key_reason(key, deployment))
    for arn in account.tagged(environment):
        if re.split(r"[/:]", arn)[-1] not in seen:
            yield Leftover("tagged", arn, None)


def _key_reason(key: dict[str, Any], deployment: Deployment) -> str | None:
    if key.get("KeyState") == "PendingDeletion":
        when = key.get("DeletionDate")
        day = f" on {when:%Y-%m-%d}" if when is not None else ""
        return f"AWS deletes it{day}: keys wait seven days, in which it can be had back"
    return "retain_data keeps it: what it encrypted cannot be read without it" if deployment.retain_data else None


def shipped_environments() -> list[str]:
    """Return the environments of the deployment files in `deployments/`."""
    return [Deployment.load(path).environment for path in sorted(DEPLOYMENTS.glob("*.yaml"))]
