"""CloudWatch's dashboards: what it refuses, and how it lists them."""

import json
from typing import Any

from local_aws.emulator.metric_requests import Request
from local_aws.emulator.ministack import cloudwatch
from local_aws.emulator.ministack.cloudwatch import CloudWatchError


def check_dashboard(request: Request) -> None:
    """Refuse a dashboard whose body is not JSON with a list of widgets."""
    try:
        body = json.loads(request.get("DashboardBody") or "")
    except ValueError as error:
        raise CloudWatchError("InvalidParameterInput", f"The dashboard body is not valid JSON: {error}") from error
    if not isinstance(body, dict) or not isinstance(body.get("widgets"), list):
        raise CloudWatchError("InvalidParameterInput", "The dashboard body must have a list of widgets.")


def list_dashboards(request: Request) -> dict[str, Any]:
    """Respond to ListDashboards."""
    prefix = request.get("DashboardNamePrefix") or ""
    members = ("DashboardName", "DashboardArn", "LastModified", "Size")
    found = [each for each in cloudwatch.dashboards() if each["DashboardName"].startswith(prefix)]
    return {"DashboardEntries": [{member: each[member] for member in members} for each in found]}
