"""Requests to the emulator's services are held against their service models, and refused in their own protocols."""

import datetime
from typing import Any

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest, HeadersDict
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.httpsession import URLLib3Session
from botocore.parsers import create_parser
from botocore.session import Session

from local_aws.account import ACCOUNT_ID, LocalAccount
from local_aws.api.services import EMULATED

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(300)]
NOW = datetime.datetime.now(datetime.UTC)


@pytest.fixture(autouse=True)
def running(account: LocalAccount) -> LocalAccount:
    return account


def unchecked(service: str) -> Any:
    """A client that leaves validation to the server, as those of other languages do."""
    config = Config(parameter_validation=False, retries={"total_max_attempts": 1})
    return boto3.client(service, config=config)  # type: ignore[call-overload]  # the stubs know each by its literal


def error_of(service: str, operation: str, request: dict[str, Any]) -> tuple[str, str]:
    with pytest.raises(ClientError) as raised:
        getattr(unchecked(service), operation)(**request)
    error = raised.value.response["Error"]
    return error["Code"], error["Message"]


METRIC = {"Metric": {"Namespace": "N", "MetricName": "m"}, "Period": 60, "Stat": "Sum"}
QUERY = {"Id": "m", "MetricStat": METRIC}
WINDOW = {"StartTime": NOW - datetime.timedelta(hours=1), "EndTime": NOW}
DATA = {**WINDOW, "MetricDataQueries": [QUERY]}
DASHBOARD = {"DashboardName": "d", "DashboardBody": "{}"}


@pytest.mark.parametrize(
    ("service", "operation", "request_", "code", "part"),
    [
        ("ecs", "create_cluster", {"clusterName": 1}, "SerializationException", "'clusterName'"),
        ("ecs", "run_task", {}, "InvalidParameterException", "'taskDefinition' failed to satisfy constraint"),
        ("ecs", "list_tasks", {"launchType": "MOON"}, "InvalidParameterException", "enum value set"),
        ("logs", "create_log_group", {"logGroupName": "a b"}, "InvalidParameterException", "regular expression"),
        ("logs", "describe_log_groups", {"limit": 51}, "InvalidParameterException", "less than or equal to 50"),
        ("ssm", "put_parameter", {"Name": "n", "Value": "v", "Type": "Text"}, "ValidationException", "enum value set"),
        ("kms", "create_key", {"KeySpec": "DES"}, "ValidationException", "enum value set"),
        ("budgets", "describe_budgets", {"AccountId": "1"}, "ValidationException", "'accountId'"),
        ("stepfunctions", "create_state_machine", {"name": "n"}, "ValidationException", "'definition'"),
        ("iam", "create_role", {"RoleName": "r"}, "ValidationError", "'assumeRolePolicyDocument'"),
        ("iam", "list_roles", {"MaxItems": 1001}, "ValidationError", "less than or equal to 1000"),
        ("sns", "create_topic", {}, "ValidationError", "'name'"),
        ("sts", "assume_role", {"RoleArn": "r", "RoleSessionName": "s"}, "ValidationError", "'roleArn'"),
        ("cloudformation", "create_stack", {"StackName": "s", "OnFailure": "CRY"}, "ValidationError", "enum value set"),
        ("ec2", "describe_subnets", {"MaxResults": 4}, "InvalidParameterValue", "greater than or equal to 5"),
        ("cloudwatch", "put_metric_data", {"Namespace": "N" * 256}, "ValidationError", "less than or equal to 255"),
    ],
)  # fmt: skip
def test_input_outside_of_the_service_model_is_refused_in_aws_words(
    service: str, operation: str, request_: dict[str, Any], code: str, part: str
) -> None:
    found = error_of(service, operation, request_)
    assert (found[0], part in found[1]) == (code, True), found


@pytest.mark.parametrize(
    ("service", "operation", "request_", "part"),
    [
        ("cloudwatch", "put_dashboard", {**DASHBOARD, "Tags": [{"Key": "k", "Value": "v"}]}, "Tags is not supported"),
        ("cloudwatch", "get_metric_data", {**DATA, "LabelOptions": {"Timezone": "+0100"}}, "LabelOptions is not"),
        (
            "cloudwatch", "get_metric_data", {**WINDOW, "MetricDataQueries": [{**QUERY, "AccountId": ACCOUNT_ID}]},
            "MetricDataQueries.1.AccountId is not supported",
        ),
        ("cloudwatch", "list_metrics", {"IncludeLinkedAccounts": True}, "linked to no other"),
        ("logs", "describe_log_groups", {"includeLinkedAccounts": True}, "linked to no other"),
        ("codebuild", "start_build", {"projectName": "p", "imageOverride": "i"}, "runs as its project says"),
        ("ce", "get_anomaly_monitors", {"MaxResults": 1}, "lists everything"),
    ],
)  # fmt: skip
def test_what_would_be_ignored_is_refused_by_name(
    service: str, operation: str, request_: dict[str, Any], part: str
) -> None:
    assert part in error_of(service, operation, request_)[1]


def test_an_alarm_action_that_nobody_would_take_is_refused() -> None:
    alarm: Any = {
        "AlarmName": "a", "Namespace": "N", "MetricName": "m", "Period": 60, "EvaluationPeriods": 1, "Threshold": 1.0,
        "ComparisonOperator": "GreaterThanThreshold", "Statistic": "Sum",
    }  # fmt: skip
    message = error_of(
        "cloudwatch", "put_metric_alarm", {**alarm, "OKActions": ["arn:aws:automate:us-east-1:ec2:stop"]}
    )[1]
    assert "has no action arn:aws:automate:us-east-1:ec2:stop" in message


@pytest.mark.parametrize("service", sorted(EMULATED))
def test_an_operation_or_a_member_that_does_not_exist_is_refused_by_name_in_the_services_protocol(
    running: LocalAccount, service: str
) -> None:
    first = EMULATED[service][0]
    for operation, part in (("Meditate", "'Meditate'"), (first, "color")):
        code, message = raw_error(running, service, operation, {"Color": "red"})
        assert code
        assert part in message


def raw_error(account: LocalAccount, service: str, operation: str, request: dict[str, str]) -> tuple[str, str]:
    """The code and the message of the error that a request gets, as botocore reads them."""
    session = Session()
    model = session.get_service_model(service)
    protocol = {"smithy-rpc-v2-cbor": "json"}.get(model.protocol, model.protocol)
    if protocol == "json":
        headers = {
            "X-Amz-Target": f"{model.metadata['targetPrefix']}.{operation}",
            "Content-Type": "application/x-amz-json-1.1",
        }
        body = "{" + ", ".join(f'"{key}": "{value}"' for key, value in request.items()) + "}"
    else:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        parameters = {"Action": operation, "Version": model.api_version, **request}
        body = "&".join(f"{key}={value}" for key, value in parameters.items())
    asked = AWSRequest("POST", f"{account.endpoint_url}/", data=body, headers=headers)
    credentials = boto3.Session().get_credentials()
    assert credentials is not None
    SigV4Auth(credentials, model.signing_name, "us-east-1").add_auth(asked)
    response = URLLib3Session().send(asked.prepare())
    assert response.status_code == 400
    described = {"status_code": 400, "headers": HeadersDict(response.headers), "body": response.content}
    # An error is read without the operation's own output.
    shape: Any = model.operation_model(EMULATED[service][0]).output_shape
    error = create_parser(protocol).parse(described, shape)["Error"]
    return error["Code"], error["Message"]
