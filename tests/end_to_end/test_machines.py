"""The local account has no EC2: a stack that wants machines is refused by their names, and never stands idle."""

import json

import boto3
import pytest
from botocore.exceptions import ClientError

from local_aws.account import LocalAccount

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(300)]


@pytest.mark.parametrize(
    "kind",
    [
        "AWS::AutoScaling::AutoScalingGroup",
        "AWS::AutoScaling::ScalingPolicy",
        "AWS::EC2::Instance",
        "AWS::EC2::LaunchTemplate",
        "AWS::ElasticLoadBalancingV2::LoadBalancer",
    ],
)
def test_a_stack_of_machines_is_refused_by_name(account: LocalAccount, kind: str) -> None:
    del account
    template = json.dumps({"Resources": {"Machine": {"Type": kind, "Properties": {}}}})
    with pytest.raises(ClientError, match=kind):
        boto3.client("cloudformation").create_stack(StackName="machines", TemplateBody=template)
