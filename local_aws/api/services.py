"""Services of the local account: those declared member by member, and those whose operations MiniStack answers."""

import json
from collections.abc import Mapping
from pathlib import Path

from local_aws.api.application_autoscaling import APPLICATION_AUTOSCALING
from local_aws.api.cloudwatch import CLOUDWATCH
from local_aws.api.codebuild import CODEBUILD
from local_aws.api.cost_explorer import COST_EXPLORER
from local_aws.api.declaration import Service
from local_aws.api.logs import LOGS
from local_aws.api.sagemaker import SAGEMAKER
from local_aws.api.sagemaker_runtime import SAGEMAKER_RUNTIME

SERVICES: tuple[Service, ...] = (
    SAGEMAKER,
    SAGEMAKER_RUNTIME,
    APPLICATION_AUTOSCALING,
    CLOUDWATCH,
    LOGS,
    CODEBUILD,
    COST_EXPLORER,
)
"""Services that the local account implements, wholly or in part."""
EMULATED_FILE = Path(__file__).with_name("emulated.json")
"""Operations that MiniStack answers; `python -m tools.emulated_operations` writes the file."""
EMULATED: Mapping[str, tuple[str, ...]] = {
    service: tuple(operations) for service, operations in json.loads(EMULATED_FILE.read_text()).items()
}
"""Operations that MiniStack answers, by botocore's name of the service."""
MODULES: Mapping[str, str] = {
    "budgets": "budgets", "cloudformation": "cloudformation", "cloudwatch": "cloudwatch", "codebuild": "codebuild",
    "ec2": "ec2", "ecr": "ecr", "ecs": "ecs", "events": "eventbridge", "iam": "iam", "kms": "kms",
    "logs": "cloudwatch_logs", "secretsmanager": "secretsmanager", "sns": "sns", "sqs": "sqs", "ssm": "ssm",
    "stepfunctions": "stepfunctions", "sts": "sts",
}  # fmt: skip
"""MiniStack's modules by botocore's name of the service: those that this project, the CDK and its templates use."""
UNVALIDATED: Mapping[str, str] = {
    "s3": "MiniStack answers it, with S3's own errors; a REST protocol, whose requests are not validated",
    "lambda": "MiniStack answers it, and runs the functions; a REST protocol, whose requests are not validated",
}
"""Services whose requests nobody holds against their models, with the reason."""
