"""Reads the deployment chosen with `-c deployment=NAME` (or a path), or `-c pipeline=NAME`, and composes its stacks."""

import importlib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import aws_cdk as cdk
from constructs import Construct

from stacks.constructs.permissions_boundary import bound
from stacks.encoder import EncoderStack
from stacks.endpoint_checks import check
from stacks.foundation import FoundationStack
from stacks.load_test import LoadTestStack
from stacks.model_build import ModelBuildStack
from stacks.monitoring import MonitoringStack
from stacks.naming import camel
from stacks.neuron_encoder import NeuronEncoderStack
from stacks.pipeline import PipelineStack
from stacks.pipeline_settings import Pipeline
from stacks.saved_model import SavedModelStack
from stacks.settings import Deployment, DeploymentError
from stacks.tabular import TabularStack

STACKS: Mapping[str, Callable[..., cdk.Stack]] = {
    "encoder": EncoderStack,
    "tabular": TabularStack,
    "saved_model": SavedModelStack,
    "neuron_encoder": NeuronEncoderStack,
}
"""By workload; each takes its own settings."""


def compose(scope: Construct, deployment: Deployment) -> None:
    """Adds the deployment's stacks to the app, or to a stage that bears the environment's name, as theirs begin."""
    prefix = f"{deployment.environment.capitalize()}-" if isinstance(scope, cdk.App) else ""
    region = deployment.region
    foundation = FoundationStack(scope, f"{prefix}Foundation", deployment=deployment, region=region)
    build = ModelBuildStack(
        scope,
        f"{prefix}ModelBuild",
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
        logged = {"access_logs": foundation.access_logs} if workload == "neuron_encoder" else {}
        STACKS[workload](
            scope,
            f"{prefix}{camel(workload)}",
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
            scope,
            f"{prefix}LoadTest",
            deployment=deployment,
            settings=deployment.load_test,
            artifacts=foundation.artifacts,
            key=foundation.key,
            region=region,
        )
    MonitoringStack(scope, f"{prefix}Monitoring", deployment=deployment, region=region)
    if deployment.permissions_boundary is not None:
        bound(scope, deployment.permissions_boundary)
    for name, value in {"environment": deployment.environment, **deployment.tags}.items():
        cdk.Tags.of(scope).add(name, value)


def main() -> int:
    """Synthesises; returns the exit code."""
    app = cdk.App()
    pipeline = app.node.try_get_context("pipeline")
    try:
        if pipeline is not None:
            name, deployments = pipeline, _deliver(app, pipeline)
        else:
            deployment = Deployment.named(app.node.try_get_context("deployment") or "dev")
            name, deployments = deployment.environment, [deployment]
            compose(app, deployment)
    except DeploymentError as error:
        print(f"error in the {'deployment' if pipeline is None else 'pipeline'}:\n{error}", file=sys.stderr)
        return 1
    assembly = app.synth()
    composed = [nested.nested_assembly for nested in assembly.nested_assemblies] or [assembly]
    violations = [
        violation
        for deployment, part in zip(deployments, composed, strict=True)
        # The folder may hold the templates of another deployment too.
        for violation in check(
            {stack.stack_name: json.loads(Path(stack.template_full_path).read_text()) for stack in part.stacks},
            profile=deployment.profile,
        )
    ]
    for violation in violations:
        print(f"error: {violation}", file=sys.stderr)
    nag = str(app.node.try_get_context("nag")).lower() == "true"
    return 1 if violations or (nag and not _nagged(app, name)) else 0


def _deliver(app: cdk.App, chosen: str) -> list[Deployment]:
    """Adds the pipeline's stack to the app; its deployments, in the order of its stages. Raises DeploymentError."""
    settings = Pipeline.named(chosen)
    dev, prod = settings.loaded()
    name = f"Pipeline-{settings.name}"
    stack = PipelineStack(app, name, settings=settings, chosen=chosen, dev=dev, prod=prod, compose=compose)
    if settings.permissions_boundary is not None:
        bound(stack, settings.permissions_boundary)
    for tag, value in settings.tags.items():
        cdk.Tags.of(stack).add(tag, value)
    return [dev, prod]


def _nagged(app: cdk.App, name: str) -> bool:
    """Whether cdk-nag, which only checks need, has nothing to say."""
    nag = importlib.import_module("stacks.nag")
    found = nag.examine(app)
    print(nag.table(name, found))
    return bool(found.clean)


if __name__ == "__main__":
    sys.exit(main())
