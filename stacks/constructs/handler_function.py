"""The Lambda functions of custom resources."""

from pathlib import Path

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct


def handler_function(
    scope: Construct, construct_id: str, *, folder: Path, handler: str, timeout: Duration, memory_mib: int
) -> lambda_.Function:
    """A function of a folder's Python code, with a log group of its own."""
    return lambda_.Function(
        scope,
        construct_id,
        runtime=lambda_.Runtime.PYTHON_3_12,
        handler=handler,
        code=lambda_.Code.from_asset(str(folder), exclude=["__pycache__", "*.pyc"]),
        timeout=timeout,
        memory_size=memory_mib,
        log_group=handler_logs(scope, construct_id),
    )


def handler_logs(scope: Construct, construct_id: str) -> logs.LogGroup:
    """A log group that ends with the stack: one that Lambda makes for itself stays behind."""
    return logs.LogGroup(
        scope,
        f"{construct_id}Logs",
        retention=logs.RetentionDays.ONE_MONTH,
        removal_policy=RemovalPolicy.DESTROY,
    )
