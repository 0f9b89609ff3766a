"""Compose the stacks of the deployment chosen with `-c deployment=NAME` (or a path), or of `-c pipeline=NAME`."""

import importlib
import json
import sys
from pathlib import Path

import aws_cdk as cdk
from constructs import Construct

from stacks.checks.endpoints import check
from stacks.constructs.permissions_boundary import apply_permissions_boundary
from stacks.naming import camel
from stacks.platform.cleanup import CleanupStack
from stacks.platform.foundation import FoundationStack
from stacks.platform.load_test import LoadTestStack
from stacks.platform.model_build import ModelBuildStack
from stacks.platform.monitoring import MonitoringStack
from stacks.platform.pipeline import PipelineStack
from stacks.settings.deployment import Deployment, DeploymentError
from stacks.settings.pipeline import Pipeline
from stacks.workloads import STACKS


def compose(scope: Construct, deployment: Deployment) -> None:
    """Add the deployment's stacks to an app, or to a stage that bears the environment's name."""
    prefix = f"{deployment.environment.capitalize()}-" if isinstance(scope, cdk.App) else ""
    foundation = FoundationStack(scope, f"{prefix}Foundation", deployment=deployment)
    resources = foundation.resources
    build = ModelBuildStack(scope, f"{prefix}ModelBuild", deployment=deployment, resources=resources)
    if foundation.network is not None:
        deployment = deployment.with_vpc(foundation.network.named)
    stacks: list[cdk.Stack] = [foundation, build]
    for name, settings in deployment.workloads.items():
        workload = STACKS[settings.kind](
            scope,
            f"{prefix}{camel(name)}",
            deployment=deployment,
            name=name,
            settings=settings,
            build=build.builds[name],
            resources=resources,
        )
        stacks.append(workload)
    if deployment.load_test is not None:
        load_test = LoadTestStack(
            scope,
            f"{prefix}LoadTest",
            deployment=deployment,
            settings=deployment.load_test,
            resources=resources,
        )
        stacks.append(load_test)
    stacks.append(MonitoringStack(scope, f"{prefix}Monitoring", deployment=deployment))
    CleanupStack(scope, f"{prefix}Cleanup", deployment=deployment, stacks=stacks, resources=resources)
    if deployment.permissions_boundary is not None:
        apply_permissions_boundary(scope, deployment.permissions_boundary)
    for name, value in {"environment": deployment.environment, **deployment.tags}.items():
        cdk.Tags.of(scope).add(name, value)


def main() -> int:
    """Synthesize, check the templates, and return the exit code."""
    app = cdk.App()
    pipeline = app.node.try_get_context("pipeline")
    try:
        if pipeline is not None:
            name, deployments = pipeline, _compose_pipeline(app, pipeline)
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
    return 1 if violations or (nag and not _passes_nag(app, name)) else 0


def _compose_pipeline(app: cdk.App, chosen: str) -> list[Deployment]:
    """Add the pipeline's stack, and return its deployments in the order of its stages; raises DeploymentError."""
    settings = Pipeline.named(chosen)
    dev, prod = settings.loaded()
    name = f"Pipeline-{settings.name}"
    stack = PipelineStack(app, name, settings=settings, chosen=chosen, dev=dev, prod=prod, compose=compose)
    if settings.permissions_boundary is not None:
        apply_permissions_boundary(stack, settings.permissions_boundary)
    for tag, value in settings.tags.items():
        cdk.Tags.of(stack).add(tag, value)
    return [dev, prod]


def _passes_nag(app: cdk.App, name: str) -> bool:
    """Return whether cdk-nag, which only checks need, finds nothing."""
    nag = importlib.import_module("stacks.checks.nag")
    found = nag.examine(app)
    print(nag.table(name, found))
    return bool(found.clean)


if __name__ == "__main__":
    sys.exit(main())
