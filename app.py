"""Reads the deployment chosen with `-c deployment=NAME` (or a path) and composes its stacks."""

import importlib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import aws_cdk as cdk

from stacks.bert_int8 import BertInt8Stack
from stacks.bert_neuron import BertNeuronStack
from stacks.churn_mme import ChurnMmeStack
from stacks.constructs.permissions_boundary import bound
from stacks.endpoint_checks import check
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
        app,
        f"{prefix}-ModelBuild",
        deployment=deployment,
        artifacts=foundation.artifacts,
        key=foundation.key,
        network=foundation.network,
        region=region,
    )
    if foundation.network is not None:
        deployment = deployment.placed(foundation.network.named)
    for workload, settings in deployment.workloads.enabled.items():
        # Only this one has a load balancer.
        logged = {"access_logs": foundation.access_logs} if workload == "bert_neuron" else {}
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
            **logged,
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
    if deployment.permissions_boundary is not None:
        bound(app, deployment.permissions_boundary)
    for name, value in {"environment": deployment.environment, **deployment.tags}.items():
        cdk.Tags.of(app).add(name, value)


def main() -> int:
    """Synthesises; returns the exit code."""
    app = cdk.App()
    try:
        deployment = Deployment.named(app.node.try_get_context("deployment") or "dev")
        compose(app, deployment)
    except DeploymentError as error:
        print(f"error in the deployment:\n{error}", file=sys.stderr)
        return 1
    # The folder may hold the templates of another deployment too.
    templates = {
        stack.stack_name: json.loads(Path(stack.template_full_path).read_text()) for stack in app.synth().stacks
    }
    violations = check(templates, profile=deployment.profile)
    for violation in violations:
        print(f"error: {violation}", file=sys.stderr)
    nag = str(app.node.try_get_context("nag")).lower() == "true"
    return 1 if violations or (nag and not _nagged(app, deployment)) else 0


def _nagged(app: cdk.App, deployment: Deployment) -> bool:
    """Whether cdk-nag, which only checks need, has nothing to say."""
    nag = importlib.import_module("stacks.nag")
    found = nag.examine(app)
    print(nag.table(deployment.environment, found))
    return bool(found.clean)


if __name__ == "__main__":
    sys.exit(main())
