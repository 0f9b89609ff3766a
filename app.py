"""Reads the deployment chosen with `-c deployment=NAME` (or a path) and composes its stacks."""

import sys
from collections.abc import Callable, Mapping

import aws_cdk as cdk

from stacks.bert_int8 import BertInt8Stack
from stacks.bert_neuron import BertNeuronStack
from stacks.churn_mme import ChurnMmeStack
from stacks.foundation import FoundationStack
from stacks.load_test import LoadTestStack
from stacks.model_build import ModelBuildStack
from stacks.monitoring import MonitoringStack
from stacks.naming import camel
from stacks.settings import Deployment, DeploymentError
from stacks.unet_tfs import UnetTfsStack

STACKS: Mapping[str, Callable[..., cdk.Stack]] = {
    "bert_int8": BertInt8Stack,
    "churn_mme": ChurnMmeStack,
    "unet_tfs": UnetTfsStack,
    "bert_neuron": BertNeuronStack,
}
"""By workload; each takes its own settings."""


def compose(app: cdk.App, deployment: Deployment) -> None:
    """Adds the deployment's stacks to the app."""
    prefix = deployment.environment.capitalize()
    region = deployment.region
    foundation = FoundationStack(app, f"{prefix}-Foundation", deployment=deployment, region=region)
    build = ModelBuildStack(
        app, f"{prefix}-ModelBuild", deployment=deployment, artifacts=foundation.artifacts, region=region
    )
    for workload, settings in deployment.workloads.enabled.items():
        STACKS[workload](
            app,
            f"{prefix}-{camel(workload)}",
            deployment=deployment,
            settings=settings,
            build=build.builds[workload],
            artifacts=foundation.artifacts,
            key=foundation.key,
            alerts=foundation.alerts,
            region=region,
        )
    if deployment.load_test is not None:
        LoadTestStack(
            app,
            f"{prefix}-LoadTest",
            deployment=deployment,
            settings=deployment.load_test,
            artifacts=foundation.artifacts,
            key=foundation.key,
            region=region,
        )
    MonitoringStack(app, f"{prefix}-Monitoring", deployment=deployment, region=region)
    for name, value in {"environment": deployment.environment, **deployment.tags}.items():
        cdk.Tags.of(app).add(name, value)


def main() -> int:
    """Synthesises; returns the exit code."""
    app = cdk.App()
    try:
        compose(app, Deployment.named(app.node.try_get_context("deployment") or "dev"))
    except DeploymentError as error:
        print(f"error in the deployment:\n{error}", file=sys.stderr)
        return 1
    app.synth()
    return 0


if __name__ == "__main__":
    sys.exit(main())
