"""The stack that deletes what is no longer in the deployment file."""

from collections.abc import Sequence

from aws_cdk import Stack
from constructs import Construct

from stacks.constructs.removed_stacks import RemovedStacks
from stacks.resources import DeploymentStack, SharedResources
from stacks.settings.deployment import Deployment


class CleanupStack(DeploymentStack):
    """Deployed after all others, so nothing is deleted before everything else is deployed; destroyed before them."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        deployment: Deployment,
        stacks: Sequence[Stack],
        resources: SharedResources,
    ) -> None:
        super().__init__(scope, construct_id, deployment=deployment)
        RemovedStacks(
            self,
            "RemovedStacks",
            stacks=stacks,
            prefix=self.stack_name.removesuffix("Cleanup"),
            resources=resources,
        )
        for stack in stacks:
            self.add_stack_dependency(stack)
