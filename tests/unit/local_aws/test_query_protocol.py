"""Requests in the query protocols are read as the service models say, whatever botocore puts into them."""

from typing import Any
from urllib.parse import parse_qsl

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel as BotocoreModel
from botocore.serialize import create_serializer

from local_aws.emulator.query_protocol import nested
from local_aws.hosting.errors import ApiError
from local_aws.hosting.service_model import ServiceModel

REQUESTS: list[tuple[str, str, dict[str, Any]]] = [
    ("iam", "CreateRole", {"RoleName": "r", "AssumeRolePolicyDocument": "{}", "Tags": [{"Key": "k", "Value": ""}]}),
    ("iam", "ListRoles", {"MaxItems": 5}),
    ("sts", "GetCallerIdentity", {}),
    (
        "cloudformation",
        "CreateChangeSet",
        {
            "StackName": "s",
            "ChangeSetName": "c",
            "Capabilities": ["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"],
            "Parameters": [
                {"ParameterKey": "a", "ParameterValue": "1"},
                {"ParameterKey": "b", "UsePreviousValue": True},
            ],
            "RollbackConfiguration": {
                "RollbackTriggers": [{"Arn": "arn:aws:x", "Type": "t"}],
                "MonitoringTimeInMinutes": 3,
            },
        },
    ),
    ("sns", "CreateTopic", {"Name": "t", "Attributes": {"DisplayName": "d", "KmsMasterKeyId": "k"}}),
    (
        "ec2",
        "DescribeSubnets",
        {"Filters": [{"Name": "vpc-id", "Values": ["a", "b"]}], "SubnetIds": ["subnet-1"], "DryRun": False},
    ),
    (
        "ec2",
        "AuthorizeSecurityGroupIngress",
        {
            "GroupId": "sg-1",
            "IpPermissions": [
                {
                    "FromPort": 1,
                    "ToPort": 2,
                    "IpProtocol": "tcp",
                    "IpRanges": [{"CidrIp": "10.0.0.0/8", "Description": "d"}],
                }
            ],
        },
    ),
]


def form(service: str, operation: str, request: dict[str, Any]) -> dict[str, str]:
    """The parameters that botocore sends."""
    model = BotocoreModel(Loader().load_service_model(service, "service-2"), service)
    made = create_serializer(model.metadata["protocol"]).serialize_to_request(request, model.operation_model(operation))
    parameters = {key: str(value) for key, value in made["body"].items()}
    assert dict(parse_qsl("&".join(f"{key}={value}" for key, value in parameters.items()), keep_blank_values=True))
    return parameters


@pytest.mark.parametrize(
    ("service", "operation", "request_"), REQUESTS, ids=lambda each: each if isinstance(each, str) else ""
)
def test_a_request_is_read_as_it_was_meant(service: str, operation: str, request_: dict[str, Any]) -> None:
    model = ServiceModel(service, inputs_of=(operation,))
    read = nested(model, operation, form(service, operation, request_), ec2=service == "ec2")
    assert model.check_input(operation, read, text=True, complete=True) == request_


@pytest.mark.parametrize(
    ("parameters", "part"),
    [
        ({"Name": "t", "Color": "red"}, "CreateTopic has no member 'color'"),
        ({}, "'name' failed to satisfy constraint: Member must not be null"),
        ({"Name": "t", "Tags.member.1.Key": ""}, "'tags.1.member.key' failed to satisfy constraint"),
        ({"Name": "t", "Tags.member.1.Key": "k", "Tags.member.1.Hue": "h"}, "no member 'tags.hue'"),
        ({"Name": "t", "Name.More": "x"}, "'name' is dict: expected str"),
    ],
)
def test_what_the_model_lacks_or_forbids_is_refused(parameters: dict[str, str], part: str) -> None:
    model = ServiceModel("sns", code="ValidationError", inputs_of=("CreateTopic",))
    with pytest.raises(ApiError) as raised:
        request = nested(model, "CreateTopic", {"Action": "CreateTopic", **parameters}, ec2=False)
        model.check_input("CreateTopic", request, text=True, complete=True)
    assert part in str(raised.value)
