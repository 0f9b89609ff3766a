"""A CloudWatch dashboard of rows."""

from collections.abc import Sequence

from aws_cdk import Aws, Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

import dashboards.endpoint
from dashboards.body import Row, compose
from stacks.dashboard_model import shown_endpoints
from stacks.settings.deployment import Deployment

ALARM_ARN = f"arn:{Aws.PARTITION}:cloudwatch:{Aws.REGION}:{Aws.ACCOUNT_ID}:alarm:"
"""What stands before an alarm's name."""


def dashboard(
    scope: Construct, construct_id: str, *, environment: str, name: str, rows: Sequence[Row]
) -> cloudwatch.CfnDashboard:
    """Return the dashboard `<environment>-<name>`, which is deleted with its stack."""
    return cloudwatch.CfnDashboard(
        scope,
        construct_id,
        dashboard_name=f"{environment}-{name}".replace("_", "-"),
        dashboard_body=Stack.of(scope).to_json_string(compose(rows)),
    )


def workload_dashboard(
    scope: Construct, *, deployment: Deployment, workload: str, rows: Sequence[Row] = ()
) -> cloudwatch.CfnDashboard:
    """Return the dashboard of a workload's SageMaker endpoints; rows: precede those of the endpoints."""
    shown = [
        row
        for endpoint in shown_endpoints(deployment, workload, ALARM_ARN)
        for row in dashboards.endpoint.rows(endpoint, Aws.REGION)
    ]
    return dashboard(scope, "Dashboard", environment=deployment.environment, name=workload, rows=[*rows, *shown])
