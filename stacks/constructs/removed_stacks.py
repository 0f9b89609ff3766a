"""Deletes the stacks of what is no longer in the deployment file."""

from collections.abc import Sequence
from pathlib import Path

from aws_cdk import Aws, CustomResource, Duration, Stack
from constructs import Construct

from stacks.checks.nag_acknowledgements import acknowledge_wildcards
from stacks.constructs.handler_function import HandlerProps, handler_function, waiting_provider
from stacks.constructs.statements import allow
from stacks.resources import SharedResources

_HANDLER = Path(__file__).parent / "removed_stacks_handler"


class RemovedStacks(Construct):
    """A custom resource with the names of a deployment's stacks. An update deletes those that are no longer among them.

    `cdk deploy` itself would leave such a stack as it is, with endpoints that nobody sees and everybody pays for.

    stacks: in the order of deployment. prefix: begins the name of every stack that the deployment ever had.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        stacks: Sequence[Stack],
        prefix: str,
        resources: SharedResources,
    ) -> None:
        super().__init__(scope, construct_id)
        functions = [
            handler_function(
                self,
                name,
                props=HandlerProps(
                    folder=_HANDLER, handler=f"index.{handler}", timeout=Duration.minutes(2), memory_mib=256
                ),
                key=resources.key,
                network=resources.network,
            )
            for name, handler in (("OnEvent", "on_event"), ("IsComplete", "is_complete"))
        ]
        arns = [f"arn:{Aws.PARTITION}:cloudformation:{Aws.REGION}:{Aws.ACCOUNT_ID}:stack/{prefix}*"]
        # CloudFormation deletes with the role that made the stack, so these functions need no permission of their own.
        for function in functions:
            function.add_to_role_policy(allow(["cloudformation:DeleteStack", "cloudformation:DescribeStacks"], arns))
            assert function.role is not None
            acknowledge_wildcards(
                function.role, arns, "stacks of earlier deployments have names that this one does not know"
            )
        on_event, is_complete = functions
        provider = waiting_provider(
            self,
            on_event=on_event,
            is_complete=is_complete,
            total_timeout=Duration.minutes(55),
            key=resources.key,
            network=resources.network,
        )
        CustomResource(
            self,
            "Resource",
            resource_type="Custom::RemovedStacks",
            service_token=provider.service_token,
            properties={"Stacks": [stack.stack_name for stack in stacks]},
        )
