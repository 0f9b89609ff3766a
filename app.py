"""Reads the deployment chosen with `-c deployment=NAME` (or a path) and composes its stacks."""

import sys

import aws_cdk as cdk

from stacks.bert_int8 import BertInt8Stack
from stacks.bert_neuron import BertNeuronStack
from stacks.churn_mme import ChurnMmeStack
from stacks.foundation import FoundationStack
from stacks.model_build import ModelBuildStack
from stacks.settings import Deployment, DeploymentError
from stacks.unet_tfs import UnetTfsStack


def compose(app: cdk.App, deployment: Deployment) -> None:
    """Adds the deployment's stacks to the app."""
    prefix = deployment.environment.capitalize()
    region = deployment.region
    foundation = FoundationStack(app, f"{prefix}-Foundation", deployment=deployment, region=region)
    build = ModelBuildStack(
        app, f"{prefix}-ModelBuild", deployment=deployment, artifacts=foundation.artifacts, region=region
    )
    workloads = deployment.workloads
    bert_int8, churn_mme, unet_tfs = workloads.bert_int8, workloads.churn_mme, workloads.unet_tfs
    bert_neuron = workloads.bert_neuron
    if bert_int8 is not None:
        BertInt8Stack(
            app,
            f"{prefix}-BertInt8",
            deployment=deployment,
            settings=bert_int8,
            build=build.builds["bert_int8"],
            artifacts=foundation.artifacts,
            key=foundation.key,
            alerts=foundation.alerts,
            region=region,
        )
    if churn_mme is not None:
        ChurnMmeStack(
            app,
            f"{prefix}-ChurnMme",
            deployment=deployment,
            settings=churn_mme,
            build=build.builds["churn_mme"],
            artifacts=foundation.artifacts,
            key=foundation.key,
            alerts=foundation.alerts,
            region=region,
        )
    if unet_tfs is not None:
        UnetTfsStack(
            app,
            f"{prefix}-UnetTfs",
            deployment=deployment,
            settings=unet_tfs,
            build=build.builds["unet_tfs"],
            artifacts=foundation.artifacts,
            key=foundation.key,
            alerts=foundation.alerts,
            region=region,
        )
    if bert_neuron is not None:
        BertNeuronStack(
            app,
            f"{prefix}-BertNeuron",
            deployment=deployment,
            settings=bert_neuron,
            build=build.builds["bert_neuron"],
            artifacts=foundation.artifacts,
            key=foundation.key,
            alerts=foundation.alerts,
            region=region,
        )
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
