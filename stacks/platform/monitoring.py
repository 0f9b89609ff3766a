"""One dashboard over all workloads of a deployment; each workload's stack has its own besides."""

from aws_cdk import Aws
from constructs import Construct

import dashboards.overview
from stacks.constructs.dashboard import ALARM_ARN, dashboard
from stacks.dashboard_model import shown_endpoints
from stacks.resources import DeploymentStack
from stacks.settings.deployment import Deployment


class MonitoringStack(DeploymentStack):
    """The overview; it names endpoints and refers to no other stack, so it can be deployed and destroyed alone."""

    def __init__(self, scope: Construct, construct_id: str, *, deployment: Deployment) -> None:
        super().__init__(scope, construct_id, deployment=deployment)
        shown = [
            endpoint
            for workload in deployment.workloads
            for endpoint in shown_endpoints(deployment, workload, ALARM_ARN)
        ]
        dashboard(
            self,
            "Overview",
            environment=deployment.environment,
            name="overview",
            rows=dashboards.overview.rows(shown, Aws.REGION),
        )
