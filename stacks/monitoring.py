"""One dashboard over all workloads of a deployment; each workload's stack has its own besides."""

from aws_cdk import Aws, Stack
from constructs import Construct

import dashboards.overview
from stacks.constructs.dashboard import ALARM_ARN, dashboard
from stacks.settings import Deployment
from stacks.shown import shown_endpoints


class MonitoringStack(Stack):
    """The overview; it names endpoints and refers to no other stack, so it can be deployed and destroyed alone."""

    def __init__(self, scope: Construct, construct_id: str, *, deployment: Deployment, region: str | None) -> None:
        super().__init__(scope, construct_id, env={"region": region} if region else None)
        shown = [
            endpoint
            for workload in deployment.workloads.enabled
            for endpoint in shown_endpoints(deployment, workload, ALARM_ARN)
        ]
        dashboard(
            self,
            "Overview",
            environment=deployment.environment,
            name="overview",
            rows=dashboards.overview.rows(shown, Aws.REGION),
        )
