"""Names that are taken: a stack that would create a resource under one is refused, as by CloudFormation.

What existed belongs to someone else. It is neither changed by the stack nor deleted by its rollback.
"""

import logging
import os
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from local_aws.emulator import scaling
from local_aws.emulator.creations import Creation, Journal
from local_aws.emulator.hosting import Properties
from local_aws.emulator.ministack import stacks
from local_aws.emulator.ministack.existing import EXISTS, arn_of
from local_aws.emulator.ministack.resources import before_naming, delete_resource
from local_aws.emulator.ministack.responses import account_id, region
from local_aws.emulator.ministack.stacks import Stack, stack_resources

logger = logging.getLogger("names")
_USUAL = "Resource of type '{kind}' with identifier '{id}' already exists."


@dataclass(frozen=True, slots=True)
class _Named:
    """Type of resources whose name a template may give.

    name: returns it from the properties. message: of AWS's handler. id: returns the resource's physical ID from its
    name. properties: those that the deletion needs, from the name.
    """

    name: Callable[[Properties], str | None]
    message: str = _USUAL
    id: Callable[[str], str] = str
    properties: Callable[[str], Properties] = lambda _: {}


def _property(name: str) -> Callable[[Properties], str | None]:
    return lambda properties: properties.get(name)


_NAMED: Mapping[str, _Named] = {
    "AWS::ApplicationAutoScaling::ScalableTarget": _Named(scaling.target_id, "{id} already exists"),
    "AWS::ApplicationAutoScaling::ScalingPolicy": _Named(
        scaling.policy_name, "Scaling Policy Already Exists", scaling.policy_id, scaling.policy_properties
    ),
    "AWS::Budgets::Budget": _Named(
        lambda properties: properties["Budget"].get("BudgetName"),
        "Error creating budget: {name} - the budget already exists. (Service: AWSBudgets; Status Code: 400; Error "
        "Code: DuplicateRecordException)",
    ),
    "AWS::CloudWatch::Alarm": _Named(_property("AlarmName")),
    "AWS::CloudWatch::CompositeAlarm": _Named(_property("AlarmName")),
    "AWS::CloudWatch::Dashboard": _Named(_property("DashboardName"), "Dashboard '{name}' already exists"),
    "AWS::CodeBuild::Project": _Named(
        _property("Name"),
        "Project already exists: arn:aws:codebuild:{region}:{account}:project/{name} (Service: AWSCodeBuild; Status "
        "Code: 400; Error Code: ResourceAlreadyExistsException)",
    ),
    "AWS::ECR::Repository": _Named(_property("RepositoryName")),
    "AWS::ECS::Cluster": _Named(_property("ClusterName")),
    "AWS::Events::Rule": _Named(_property("Name")),
    "AWS::IAM::InstanceProfile": _Named(_property("InstanceProfileName")),
    "AWS::IAM::ManagedPolicy": _Named(
        _property("ManagedPolicyName"),
        "A policy called {name} already exists. Duplicate names are not allowed. (Service: Iam, Status Code: 409)",
        lambda name: f"arn:aws:iam::{account_id()}:policy/{name}",
    ),
    "AWS::IAM::Role": _Named(_property("RoleName")),
    "AWS::IAM::User": _Named(_property("UserName")),
    "AWS::KMS::Alias": _Named(_property("AliasName")),
    "AWS::Lambda::Function": _Named(_property("FunctionName")),
    "AWS::Logs::LogGroup": _Named(
        _property("LogGroupName"),
        "Resource of type '{kind}' with identifier '{{\"/properties/LogGroupName\":\"{name}\"}}' already exists.",
    ),
    "AWS::SNS::Topic": _Named(_property("TopicName"), "{name} already exists", partial(arn_of, "sns")),
    "AWS::SSM::Parameter": _Named(_property("Name")),
    "AWS::SecretsManager::Secret": _Named(
        _property("Name"),
        "The operation failed because the secret {name} already exists. (Service: SecretsManager, Status Code: 400)",
    ),
    "AWS::StepFunctions::StateMachine": _Named(
        _property("StateMachineName"), id=lambda name: arn_of("states", f"stateMachine:{name}")
    ),
}
"""By CloudFormation type. The messages are those that users of AWS report; _USUAL is that of most types."""
_EXISTS = {
    **EXISTS,
    "AWS::ApplicationAutoScaling::ScalableTarget": scaling.has_target,
    "AWS::ApplicationAutoScaling::ScalingPolicy": scaling.has_policy,
}


class NameTakenError(ValueError):
    """A resource of the name exists; the message is AWS's."""


@cache
def journal() -> Journal:
    """Return the account's journal of creations."""
    return Journal(Path(os.environ["STATE_DIR"]) / "creating.json")


def _check(kind: str, logical_id: str, name: str, stack_name: str) -> None:
    """Raise NameTakenError if someone else has the name; otherwise note that the stack is about to take it."""
    stack = next((each for each in stacks.all_stacks() if each["StackName"] == stack_name), None)
    if stack is None or _owns(stack, logical_id, kind, name):
        return
    if _EXISTS[kind](name):
        named = _NAMED[kind]
        shown = {"kind": kind, "name": name, "id": named.id(name), "region": region(), "account": account_id()}
        raise NameTakenError(
            f'Resource handler returned message: "{named.message.format(**shown)}" (RequestToken: {uuid.uuid4()}, '
            "HandlerErrorCode: AlreadyExists)"
        )
    journal().begin(Creation(stack["StackId"], logical_id, kind, name, region()))


def _owns(stack: Stack, logical_id: str, kind: str, name: str) -> bool:
    """Return whether a stack's own resource has the name; an update may create it again."""
    record = stack_resources(stack).get(logical_id)
    return record is not None and (record["ResourceType"], _NAMED[kind].name(record["Properties"])) == (kind, name)


def remove_lost() -> None:
    """Delete resources that an operation created whose stack, as it was saved, does not know them."""
    by_id = {stack["StackId"]: stack for stack in stacks.all_stacks()}
    for creation in reversed(journal().read()):
        stack = by_id.get(creation.stack)
        if stack is not None and _owns(stack, creation.logical_id, creation.kind, creation.name):
            continue
        with stacks.region_named(creation.region):
            if _EXISTS[creation.kind](creation.name):
                _delete(creation)
    for stack_id in {creation.stack for creation in journal().read()}:
        journal().end(stack_id)


def _delete(creation: Creation) -> None:
    named = _NAMED[creation.kind]
    logger.warning("removing %s %s: the deployment that created it was lost", creation.kind, creation.name)
    try:
        delete_resource(creation.kind, named.id(creation.name), named.properties(creation.name))
    except Exception:
        # A resource that stays is refused by name in the next deployment; the account works on without that.
        logger.exception("%s %s could not be removed", creation.kind, creation.name)


def register() -> None:
    """Check the names of all these types."""
    for kind, named in _NAMED.items():
        before_naming(kind, named.name, partial(_check, kind))
