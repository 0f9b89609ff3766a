"""The Lambda functions of custom resources, and the CDK's framework that waits for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aws_cdk import Duration, custom_resources
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct

from stacks.checks.nag_acknowledgements import acknowledge, acknowledge_wildcards
from stacks.constructs.assets import ROOT, AssetSource, stage
from stacks.constructs.log_group import log_group
from stacks.constructs.private_network import PrivateNetwork, acknowledge_interfaces, function_statements

_OWN_VERSIONS = "the versions of one function, which is never published and has none: the CDK grants them unasked"


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerProps:
    """A function's code and size.

    folder: of the Python code. handler: MODULE.FUNCTION. role_path: IAM path of the role; None for the root.
    """

    folder: Path
    handler: str
    timeout: Duration
    memory_mib: int
    role_path: str | None = None


def handler_function(
    scope: Construct,
    construct_id: str,
    *,
    props: HandlerProps,
    key: kms.IKey,
    network: PrivateNetwork | None,
) -> lambda_.Function:
    """Return a function of a folder's Python code, with its own log group and a role that may write to it."""
    source = props.folder.relative_to(ROOT).as_posix()
    group = log_group(scope, f"{construct_id}Logs", key=key)
    role = function_role(scope, f"{construct_id}Role", group, network, props.role_path)
    function = lambda_.Function(
        scope,
        construct_id,
        runtime=lambda_.Runtime.PYTHON_3_14,
        handler=props.handler,
        code=lambda_.Code.from_asset(stage(scope, AssetSource(context=source, folders=(source,)))),
        timeout=props.timeout,
        memory_size=props.memory_mib,
        log_group=group,
        role=role,
    )
    if network is not None:
        network.place_function(function)
    return function


def function_role(
    scope: Construct,
    construct_id: str,
    group: logs.LogGroup,
    network: PrivateNetwork | None,
    path: str | None = None,
) -> iam.Role:
    """Return a function's role; AWS's managed policy would let it write to every log group of the account."""
    placing = [] if network is None else function_statements()
    role = iam.Role(
        scope,
        construct_id,
        # Lambda assumes a role for functions of its own account only, and passes no source account to say so.
        assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"),
        path=path,
        inline_policies={
            "Log": iam.PolicyDocument(
                statements=[
                    iam.PolicyStatement(
                        actions=["logs:CreateLogStream", "logs:PutLogEvents"], resources=[group.log_group_arn]
                    ),
                    *placing,
                ]
            )
        },
    )
    if placing:
        acknowledge_interfaces(role)
    return role


def provider(
    scope: Construct, *, on_event: lambda_.Function, key: kms.IKey, network: PrivateNetwork | None
) -> custom_resources.Provider:
    """Return the CDK's provider framework around a handler that is done when it returns."""
    group = log_group(scope, "ProviderLogs", key=key)
    role = function_role(scope, "FrameworkOnEventRole", group, network)
    made = custom_resources.Provider(
        scope,
        "Provider",
        on_event_handler=on_event,
        log_group=group,
        framework_on_event_role=role,
        provider_function_env_encryption=key,
    )
    _prepare(made, [role], [on_event], key, network)
    return made


def waiting_provider(
    scope: Construct,
    *,
    on_event: lambda_.Function,
    is_complete: lambda_.Function,
    total_timeout: Duration,
    key: kms.IKey,
    network: PrivateNetwork | None,
) -> custom_resources.Provider:
    """Return the CDK's provider framework around a handler, which polls every five seconds until the work is done."""
    group = log_group(scope, "ProviderLogs", key=key)
    roles = [function_role(scope, name, group, network) for name in ("FrameworkOnEventRole", "FrameworkWaitingRole")]
    made = custom_resources.Provider(
        scope,
        "Provider",
        on_event_handler=on_event,
        is_complete_handler=is_complete,
        query_interval=Duration.seconds(5),
        total_timeout=total_timeout,
        log_group=group,
        framework_on_event_role=roles[0],
        framework_complete_and_timeout_role=roles[1],
        provider_function_env_encryption=key,
    )
    _prepare(made, roles, [on_event, is_complete], key, network)
    _acknowledge_framework(made)
    return made


def _prepare(
    made: custom_resources.Provider,
    roles: Sequence[iam.Role],
    handlers: Sequence[lambda_.Function],
    key: kms.IKey,
    network: PrivateNetwork | None,
) -> None:
    """Let the framework's functions read their variables, and put them into the network."""
    for role in roles:
        role.add_to_principal_policy(iam.PolicyStatement(actions=["kms:Decrypt"], resources=[key.key_arn]))
        acknowledge_wildcards(role, _versions(*handlers), _OWN_VERSIONS)
    if network is not None:
        for child in made.node.children:
            if isinstance(child, lambda_.Function):
                network.place_function(child)


def _acknowledge_framework(provider: custom_resources.Provider) -> None:
    machine = provider.node.find_child("waiter-state-machine")
    acknowledge(
        machine,
        "SF1",
        "the machine asks a function until it is done and holds no logic: the functions log every event and every "
        "answer, and a log group of the machine's own would want a resource policy of the whole account",
    )
    acknowledge(machine, "SF2", "one function is called in a loop, so a trace would show nothing but its duration")
    waiting = [
        child
        for name in ("framework-isComplete", "framework-onTimeout")
        if isinstance(child := provider.node.find_child(name), lambda_.Function)
    ]
    acknowledge_wildcards(machine, _versions(*waiting), _OWN_VERSIONS)


def _versions(*functions: lambda_.Function) -> Sequence[str]:
    return [f"{function.function_arn}:*" for function in functions]
