"""Custom resource Custom::ServedConfiguration: fails a deployment whose endpoint does not serve what was deployed.

SageMaker rolls an update back when an alarm fires. The endpoint is then InService, with its previous configuration, and
CloudFormation may take that for success: it would delete the model that the endpoint serves.
"""

from typing import Any

import boto3


def on_event(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Compare an endpoint with its properties; raise RuntimeError with SageMaker's reason and what to do."""
    del context
    name = event["ResourceProperties"]["EndpointName"]
    if event["RequestType"] != "Delete":
        endpoint = boto3.client("sagemaker").describe_endpoint(EndpointName=name)
        status, served = endpoint["EndpointStatus"], endpoint["EndpointConfigName"]
        wanted = event["ResourceProperties"]["EndpointConfigName"]
        if (status, served) != ("InService", wanted):
            reason = endpoint.get("FailureReason") or "SageMaker gives no reason"
            raise RuntimeError(
                f"endpoint {name} is {status} with the configuration {served} instead of {wanted}: {reason}. Mend the "
                "cause, which its alarms and its log group show, and deploy again"
            )
    return {"PhysicalResourceId": name}
